//! The controller and the agents of a lab: programs that tests stop, kill and start again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::topology::Node;
use crate::universe::Entrance;
use crate::wait::until;

/// How long a program may take to start or to end, on an emulated processor too.
const DEADLINE: Duration = Duration::from_secs(60);

/// A long-running program of a lab, with what is needed to start it again.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) name: String,
    pub(crate) entrance: Entrance,
    /// Its network namespace; `None` is the controller's place.
    pub(crate) netns: Option<String>,
    pub(crate) argv: Vec<String>,
    /// It is ready when it accepts connections here.
    pub(crate) socket: PathBuf,
    /// And answers to this there; empty where it need not. The controller takes its addresses
    /// before it opens its store.
    pub(crate) question: &'static str,
    pub(crate) log: PathBuf,
    pub(crate) process: Mutex<Option<Process>>,
}

impl Daemon {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// Where it runs already, ends at once, or is not ready in time; with the end of its log.
    pub fn start(&self) -> Result<()> {
        let mut process = self.process();
        ensure!(process.is_none(), "{} runs already", self.name);
        let node = self.netns.as_deref().map_or(Node::Controller, Node::Named);
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        let command = self.entrance.command(node, &argv);
        let started = process.insert(Process::start(&self.name, command, &self.log)?);
        until(&format!("{} is ready", self.name), DEADLINE, || {
            started.must_run()?;
            Ok(self.answers().is_ok().then_some(()))
        })
    }

    fn answers(&self) -> std::io::Result<()> {
        let mut socket = UnixStream::connect(&self.socket)?;
        if !self.question.is_empty() {
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.write_all(self.question.as_bytes())?;
            socket.read_exact(&mut [0])?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// Where it does not run, or still does after a minute.
    pub fn stop(&self) -> Result<()> {
        let mut process = self.process();
        running(&mut process, &self.name)?.stop(DEADLINE)?;
        *process = None;
        Ok(())
    }

    /// Kills it with no chance to do anything.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill9(&self) -> Result<()> {
        let mut process = self.process();
        running(&mut process, &self.name)?.kill9()?;
        *process = None;
        Ok(())
    }

    /// [`Self::stop`], then [`Self::start`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        running(&mut self.process(), &self.name)?.signal(signal)
    }

    /// Its process id, as seen from outside.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pid(&self) -> Result<i32> {
        running(&mut self.process(), &self.name)?.pid()
    }

    /// Where what it logs goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A test that panicked with the lock held is over; the process is still ours to end.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn running<'a>(process: &'a mut Option<Process>, name: &str) -> Result<&'a mut Process> {
    process.as_mut().with_context(|| format!("{name} does not run"))
}
