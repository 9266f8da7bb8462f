//! Where the file systems of a disk are: as partx(8) and blkid(8) read it.

use std::path::Path;

use crate::error::InjectError;
use crate::program::{BLKID, PARTX};

/// What partx counts in, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// A piece of a disk: a partition, or the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its number in the table; 0 is the whole disk.
    pub(crate) number: u32,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// What is on it, in blkid's words; nothing it knows if absent.
    pub(crate) holds: Option<String>,
}

impl Piece {
    /// Whether it holds what debugfs writes.
    pub(crate) fn is_ext(&self) -> bool {
        self.holds.as_deref().is_some_and(|holds| matches!(holds, "ext2" | "ext3" | "ext4"))
    }
}

/// Every piece of the disk: one, if it has no partition table.
pub(crate) fn pieces(disk: &Path) -> Result<Vec<Piece>, InjectError> {
    let whole = Piece { number: 0, offset: 0, holds: holds(disk, 0)? };
    if whole.holds.is_some() {
        return Ok(vec![whole]);
    }
    let mut command = PARTX.command();
    command.args(["--raw", "--bytes", "--noheadings", "--output", "NR,START"]).arg(disk);
    let output = PARTX.output(&mut command)?;
    // It fails where there is no table.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut pieces = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let start = words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(number), Some(start)) = (number, start) else { continue };
        let Some(offset) = start.checked_mul(SECTOR) else { continue };
        pieces.push(Piece { number, offset, holds: holds(disk, offset)? });
    }
    Ok(if pieces.is_empty() { vec![whole] } else { pieces })
}

/// What pieces of a disk that have no root are found to have, for a person.
pub(crate) fn described(pieces: &[Piece]) -> String {
    let text = |piece: &Piece| {
        let mut holds = piece.holds.clone().unwrap_or_else(|| "nothing known".to_owned());
        if piece.is_ext() {
            holds += " without a folder /etc";
        }
        if piece.number == 0 {
            format!("it holds {holds}")
        } else {
            format!("partition {} holds {holds}", piece.number)
        }
    };
    pieces.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn holds(disk: &Path, offset: u64) -> Result<Option<String>, InjectError> {
    let mut command = BLKID.command();
    command.args(["--probe", "--output", "value", "--match-tag", "TYPE", "--offset"]);
    let output = BLKID.output(command.arg(offset.to_string()).arg(disk))?;
    // It fails where it knows nothing.
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((!text.is_empty()).then_some(text))
}
