//! One line of the ledger: sixteen hex digits of the SHA-256 of the rest, a space, an update as
//! JSON, a line feed.

use sha2::{Digest, Sha256};
use trestle_core::spec::SpecUpdate;

/// How many hex digits of the checksum stand before the space.
const DIGITS: usize = 16;

/// An update as it stands in the file.
#[derive(Debug)]
pub(crate) struct Line(Vec<u8>);

impl Line {
    /// Writes the update as a line.
    pub(crate) fn new(update: &SpecUpdate) -> Self {
        let json = serde_json::to_vec(update).expect("keys print as text, so every update is JSON");
        let mut bytes = Vec::with_capacity(DIGITS + json.len() + 2);
        bytes.extend_from_slice(&checksum(&json));
        bytes.push(b' ');
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        Self(bytes)
    }

    /// With its line feed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The JSON of a line with its line feed, if the line is whole.
pub(super) fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = line.split_at_checked(DIGITS)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    (checksum(json) == sum).then_some(json)
}

fn checksum(json: &[u8]) -> [u8; DIGITS] {
    let hash = Sha256::digest(json);
    let digit = |index: usize| {
        let byte = hash[index / 2];
        let nibble = if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf };
        b"0123456789abcdef"[usize::from(nibble)]
    };
    std::array::from_fn(digit)
}
