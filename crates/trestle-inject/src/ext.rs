//! An ext2, ext3 or ext4 file system in a disk image, read and written by e2fsprogs without
//! mounting it: the kernel need not trust it, and no privilege is needed.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::error::{InjectError, WRITE_GUEST};
use crate::files::{Change, Entry, Files, Kind, LARGEST, entry, split};
use crate::program::{DEBUGFS, E2FSCK, said};

/// A file system in an image, and a folder for what passes between debugfs and us.
pub(crate) struct ExtFiles<'a> {
    /// As e2fsprogs name it.
    device: String,
    image: &'a Path,
    folder: &'a Path,
}

impl<'a> ExtFiles<'a> {
    /// The file system that begins at an offset of a disk, whose path is one of ours: in it
    /// e2fsprogs find no `?`. Messages name the image.
    pub(crate) fn new(disk: &Path, offset: u64, folder: &'a Path, image: &'a Path) -> Self {
        Self { device: format!("{}?offset={offset}", disk.display()), image, folder }
    }

    /// Replays the journal of a guest that was switched off, and repairs what is safe to repair.
    pub(crate) fn repair(&self) -> Result<(), InjectError> {
        // e2fsck(8): 1 says that it has repaired something.
        self.check(&["-p"], 1)
    }

    /// Whether every structure is right.
    pub(crate) fn verify(&self) -> Result<(), InjectError> {
        self.check(&["-f", "-n"], 0)
    }

    fn check(&self, options: &[&str], worst: i32) -> Result<(), InjectError> {
        let mut command = E2FSCK.command();
        let output = E2FSCK.output(command.args(options).arg(&self.device))?;
        match output.status.code() {
            Some(code) if code <= worst => Ok(()),
            _ => {
                let said = said(&[output.stdout, output.stderr].concat());
                Err(InjectError::Damaged { image: self.image.to_owned(), said })
            }
        }
    }

    /// Runs one request, and gives what it printed and what it complained of.
    fn ask(&self, request: &str) -> Result<(Vec<u8>, String), InjectError> {
        let mut command = DEBUGFS.command();
        let output = DEBUGFS.output(command.args(["-R", request]).arg(&self.device))?;
        if !output.status.success() {
            return Err(DEBUGFS.failed(&output));
        }
        Ok((output.stdout, complaint(&output.stderr)))
    }

    fn run(&self, script: &str) -> Result<String, InjectError> {
        let path = self.folder.join("requests");
        fs::write(&path, script).map_err(InjectError::io("write to", &path))?;
        let mut command = DEBUGFS.command();
        let output = DEBUGFS.output(command.arg("-w").arg("-f").arg(&path).arg(&self.device))?;
        if !output.status.success() {
            return Err(DEBUGFS.failed(&output));
        }
        Ok(complaint(&output.stderr))
    }

    /// The requests that make a folder where there is none, with those above it.
    fn make_folders(
        &mut self,
        path: &str,
        made: &mut Vec<String>,
        script: &mut String,
    ) -> Result<(), InjectError> {
        if path.is_empty() || made.iter().any(|folder| folder == path) {
            return Ok(());
        }
        match entry(self, path)?.map(|found| found.kind) {
            Some(Kind::Folder | Kind::Link) => return Ok(()),
            Some(_) => return Err(InjectError::NotAFolder(path.to_owned())),
            None => {}
        }
        self.make_folders(split(path).0, made, script)?;
        let _ = writeln!(script, "mkdir /{path}\n{}", owned_by_root(path, 0o040_755));
        made.push(path.to_owned());
        Ok(())
    }

    /// Reads back what was written: debugfs ends with success whatever happened.
    fn must_hold(&mut self, change: &Change, complaint: &str) -> Result<(), InjectError> {
        let (path, is_done) = match change {
            Change::Write { path, text, mode } => {
                let found = entry(self, path)?;
                let is_right = found.is_some_and(|found| found.kind == Kind::File && found.mode == *mode);
                (path, is_right && self.read(path)? == *text)
            }
            Change::Remove { path } => (path, entry(self, path)?.is_none()),
        };
        if is_done {
            Ok(())
        } else if complaint.contains("Could not allocate") {
            Err(InjectError::NoSpace)
        } else {
            Err(InjectError::NotWritten { path: path.clone(), said: complaint.to_owned() })
        }
    }
}

impl Files for ExtFiles<'_> {
    fn list(&mut self, folder: &str) -> Result<Vec<Entry>, InjectError> {
        let (listing, complaint) = self.ask(&format!("ls -p {}", followed(folder)))?;
        if complaint.contains("not found") || complaint.contains("not a directory") {
            return Ok(Vec::new());
        }
        if !complaint.is_empty() {
            return Err(InjectError::Program { program: DEBUGFS.name, said: complaint });
        }
        Ok(String::from_utf8_lossy(&listing).lines().filter_map(listed).collect())
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, InjectError> {
        if entry(self, path)?.is_none_or(|found| found.kind != Kind::File) {
            return Err(InjectError::NotPlain(path.to_owned()));
        }
        let (text, complaint) = self.ask(&format!("cat /{path}"))?;
        if !complaint.is_empty() {
            return Err(InjectError::Program { program: DEBUGFS.name, said: complaint });
        }
        if text.len() as u64 > LARGEST {
            return Err(InjectError::TooLarge { path: path.to_owned(), most: LARGEST });
        }
        Ok(text)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), InjectError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut script = String::new();
        let mut made = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            match change {
                Change::Write { path, text, mode } => {
                    let source = self.folder.join(format!("text{number}"));
                    fs::write(&source, text).map_err(InjectError::io(WRITE_GUEST, &source))?;
                    let (folder, name) = split(path);
                    self.make_folders(folder, &mut made, &mut script)?;
                    if entry(self, path)?.is_some() {
                        let _ = writeln!(script, "rm /{path}");
                    }
                    // It takes a name only, in the folder it is in.
                    let _ = writeln!(script, "cd {}\nwrite {} {name}", followed(folder), source.display());
                    script += &owned_by_root(path, 0o100_000 | mode);
                }
                Change::Remove { path } => {
                    let _ = writeln!(script, "rm /{path}");
                }
            }
        }
        let complaint = self.run(&script)?;
        changes.iter().try_for_each(|change| self.must_hold(change, &complaint))
    }
}

/// A folder, or what a link to a folder leads to within the file system.
fn followed(folder: &str) -> String {
    if folder.is_empty() { "/".to_owned() } else { format!("/{folder}/.") }
}

fn owned_by_root(path: &str, mode: u32) -> String {
    format!("sif /{path} mode 0{mode:o}\nsif /{path} uid 0\nsif /{path} gid 0\n")
}

/// An entry of `ls -p`: `/inode/mode/uid/gid/name/size/`.
fn listed(line: &str) -> Option<Entry> {
    let mut fields = line.split('/').skip(2);
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    let name = fields.nth(2)?.to_owned();
    let is_child = name != "." && name != "..";
    is_child.then(|| Entry { name, kind: Kind::of(mode), mode: mode & 0o7777 })
}

/// What debugfs said, without its greeting.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("debugfs 1.")).collect();
    said(lines.join("\n").as_bytes())
}
