//! The programs of others that do the work, and the Debian packages they are in.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, Output};

use crate::error::InjectError;

/// A program of another project.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    package: &'static str,
}

pub(crate) const CP: Program = Program { name: "cp", package: "coreutils" };
pub(crate) const PARTX: Program = Program { name: "partx", package: "util-linux" };
pub(crate) const BLKID: Program = Program { name: "blkid", package: "util-linux" };
pub(crate) const UNSHARE: Program = Program { name: "unshare", package: "util-linux" };
pub(crate) const DEBUGFS: Program = Program { name: "debugfs", package: "e2fsprogs" };
pub(crate) const E2FSCK: Program = Program { name: "e2fsck", package: "e2fsprogs" };
pub(crate) const STORAGE_DAEMON: Program =
    Program { name: "qemu-storage-daemon", package: "qemu-system-common" };
pub(crate) const XORRISO: Program = Program { name: "xorriso", package: "xorriso" };

impl Program {
    /// To be given arguments. What it says is in English, since some of it is read.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.name);
        command.env("LC_ALL", "C").env("PATH", search_path());
        command
    }

    /// Runs it to its end, however that turns out.
    pub(crate) fn output(self, command: &mut Command) -> Result<Output, InjectError> {
        command.output().map_err(|source| self.not_started(source))
    }

    /// Runs it to its end and gives what it printed.
    pub(crate) fn succeed(self, command: &mut Command) -> Result<String, InjectError> {
        let output = self.output(command)?;
        if !output.status.success() {
            return Err(self.failed(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts it.
    pub(crate) fn start(self, command: &mut Command) -> Result<Child, InjectError> {
        command.spawn().map_err(|source| self.not_started(source))
    }

    /// For an end that is not success.
    pub(crate) fn failed(self, output: &Output) -> InjectError {
        let said = said(&output.stderr);
        let said = if said.is_empty() { output.status.to_string() } else { said };
        InjectError::Program { program: self.name, said }
    }

    pub(crate) fn missing(self) -> InjectError {
        InjectError::Missing { program: self.name, package: self.package }
    }

    fn not_started(self, source: io::Error) -> InjectError {
        match source.kind() {
            io::ErrorKind::NotFound => self.missing(),
            _ => InjectError::Io { doing: "start", path: self.name.into(), source },
        }
    }
}

/// What a program said, on one line.
pub(crate) fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// The caller's, and where Debian has programs that are not on the path of ordinary users. An
/// empty one would be the working directory.
fn search_path() -> OsString {
    let given = std::env::var_os("PATH").filter(|path| !path.is_empty());
    let mut path = given.unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}
