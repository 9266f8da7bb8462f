//! What is spoken through a machine's door: an order, then frames in both directions, or, for a
//! connection, what its two ends say.

use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The TCP port of the door. It is on a link that has two ends and leads nowhere else.
pub(super) const PORT: u16 = 7;
/// More than any frame holds: what is larger is none of ours.
const LARGEST: u32 = 1 << 20;

/// What is asked for, as the first frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// To run a command.
    Run { argv: Vec<String>, variables: Vec<(String, String)> },
    /// To be connected with a unix socket.
    Connect { socket: PathBuf },
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An [`Order`], as JSON.
    Order = 0,
    /// For the command's standard input; empty at its end.
    Input = 1,
    /// The number of a signal for the command.
    Signal = 2,
    /// From the command's standard output.
    Output = 3,
    /// From its standard error.
    Complaint = 4,
    /// How it ended: four bytes of a wait status (wait(2)).
    End = 5,
}

/// How a frame begins: its kind and the number of bytes that follow.
pub(super) const HEADER: usize = 5;

pub(super) fn header(kind: Kind, payload: &[u8]) -> [u8; HEADER] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, length[0], length[1], length[2], length[3]]
}

pub(super) fn read_header(header: [u8; HEADER]) -> Result<(Kind, usize)> {
    let [kind, length @ ..] = header;
    let kinds = [Kind::Order, Kind::Input, Kind::Signal, Kind::Output, Kind::Complaint, Kind::End];
    let kind = kinds.get(usize::from(kind)).context("a frame of no known kind")?;
    let length = u32::from_be_bytes(length);
    ensure!(length <= LARGEST, "a frame of {length} bytes");
    Ok((*kind, length as usize))
}

pub(super) fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&header(kind, payload), payload].concat())
}

pub(super) fn read(from: &mut impl Read) -> Result<(Kind, Vec<u8>)> {
    let mut begin = [0; HEADER];
    from.read_exact(&mut begin).context("the machine's end of the connection closed")?;
    let (kind, length) = read_header(begin)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).context("the machine's end of the connection closed")?;
    Ok((kind, payload))
}
