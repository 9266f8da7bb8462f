//! Writing the archive that a kernel unpacks as its first root file system.
//!
//! The format is `newc` of Documentation/driver-api/early-userspace/buffer-format.rst; not
//! compressed, since an emulated processor takes longer to unpack it than to read it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive that is being written. Paths are absolute; everything belongs to root.
#[derive(Debug)]
pub(crate) struct Archive {
    out: BufWriter<File>,
    /// What is in it: an entry is written once, and behind the folder it is in.
    entries: BTreeSet<PathBuf>,
}

impl Archive {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { out: BufWriter::with_capacity(1 << 20, file), entries: BTreeSet::new() })
    }

    /// A folder, with those around it.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        self.folder(parent)?;
        self.entry(path, FOLDER | 0o755, &[])
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.in_its_folder(path, LINK | 0o777, target.as_os_str().as_bytes())
    }

    /// A file with this text, which can be run as a program.
    pub(crate) fn script(&mut self, path: &Path, text: &str) -> Result<()> {
        self.in_its_folder(path, REGULAR | 0o755, text.as_bytes())
    }

    /// The contents and permissions of a file of this machine.
    pub(crate) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        if self.entries.contains(to) {
            return Ok(());
        }
        let read = || anyhow::Ok((std::fs::metadata(from)?.mode(), std::fs::read(from)?));
        let (mode, contents) = read().with_context(|| format!("reading {}", from.display()))?;
        self.in_its_folder(to, REGULAR | (mode & 0o777), &contents)
    }

    /// All files below a folder of this machine, under the same path.
    pub(crate) fn copy_tree(&mut self, folder: &Path) -> Result<()> {
        let list = || format!("listing {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(list)? {
            let path = entry.with_context(list)?.path();
            if path.is_dir() { self.copy_tree(&path)? } else { self.copy(&path, &path)? }
        }
        Ok(())
    }

    /// Writes what marks the end.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.entry(Path::new("/TRAILER!!!"), 0, &[])?;
        self.out.flush().context("writing an archive")
    }

    fn in_its_folder(&mut self, path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
        self.folder(path.parent().unwrap_or(Path::new("/")))?;
        self.entry(path, mode, contents)
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
        if !self.entries.insert(path.to_owned()) {
            return Ok(());
        }
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
        let size =
            u32::try_from(contents.len()).with_context(|| format!("{} is too large", path.display()))?;
        let name_size = u32::try_from(name.len() + 1).context("a path is too long")?;
        // Inode, mode, owner, group, links, time, size, four numbers of devices, name's size, sum.
        let inode = u32::try_from(self.entries.len()).context("too many entries")?;
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08x}");
        }
        self.padded(&[header.as_bytes(), name, b"\0"])?;
        self.padded(&[contents])
    }

    /// Writes the parts as one, up to a multiple of four bytes.
    fn padded(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let padding = &[0; 3][..length.next_multiple_of(4) - length];
        for part in parts.iter().chain([&padding]) {
            self.out.write_all(part).context("writing an archive")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn cpio_reads_what_is_written() {
        let path = std::env::temp_dir().join(format!("archive-{}.cpio", std::process::id()));
        let mut archive = Archive::create(&path).expect("it can be made");
        archive.script(Path::new("/a/b/run"), "odd").expect("a file");
        archive.link(Path::new("/sh"), Path::new("a/b/run")).expect("a link");
        archive.script(Path::new("/a/b/run"), "again").expect("nothing");
        archive.finish().expect("the end");
        let output = Command::new("cpio").args(["-itv", "-F"]).arg(&path).output().expect("cpio runs");
        std::fs::remove_file(&path).expect("it was there");
        let listed = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<String> = listed
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}", words[0], words[4], words[8..].join(" "))
            })
            .collect();
        assert_eq!(
            lines,
            ["drwxr-xr-x 0 a", "drwxr-xr-x 0 a/b", "-rwxr-xr-x 3 a/b/run", "lrwxrwxrwx 7 sh -> a/b/run"]
        );
    }
}
