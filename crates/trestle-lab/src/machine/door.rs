//! The way into a machine, from outside: runs commands in it and connects with its sockets.

use std::fs::File;
use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::frame::{self, Kind, Order, PORT};
use crate::universe::Entrance;

/// The machine's end of the link.
pub(super) const MACHINE: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// How to get into a machine. Only root can: the link to it is in the universe around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub(super) universe: Entrance,
}

/// From where a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Complaints,
}

impl Door {
    pub(crate) fn new(universe: Entrance) -> Self {
        Self { universe }
    }

    /// Runs a command in the machine's own place, with nothing on its standard input.
    ///
    /// # Errors
    /// Where the machine is not there or ends meanwhile; the command's failure is in the answer.
    pub fn output(&self, argv: &[&str]) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.run(argv, |stream, bytes| {
            match stream {
                Stream::Output => stdout.extend_from_slice(bytes),
                Stream::Complaints => stderr.extend_from_slice(bytes),
            }
            Ok(())
        })?;
        Ok(Output { status, stdout, stderr })
    }

    /// The same, and tells what it prints as it comes.
    pub(super) fn run(
        &self,
        argv: &[&str],
        told: impl FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<ExitStatus> {
        let mut connection = self.order(argv)?;
        frame::write(&mut connection, Kind::Input, &[]).context("speaking to the machine")?;
        hear(&mut connection, told)
    }

    /// Runs a command as if it ran here: with our standard input, output and error, and with the
    /// signals that we get.
    ///
    /// # Errors
    /// Where the machine is not there or ends meanwhile.
    pub fn attend(&self, argv: &[&str]) -> Result<ExitStatus> {
        // Before any thread starts: from now on only the one that asks for them gets them.
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block().context("holding back signals")?;
        let mut connection = self.order(argv)?;
        let speaker = connection.try_clone().context("sharing a connection")?;
        let speaker = Arc::new(Mutex::new(speaker));
        // These two end with this process.
        let of_signals = Arc::clone(&speaker);
        std::thread::spawn(move || pass_signals(&signals, &of_signals));
        std::thread::spawn(move || pass_input(&speaker));
        hear(&mut connection, |stream, bytes| match stream {
            Stream::Output => print(&mut stdout().lock(), bytes),
            Stream::Complaints => print(&mut stderr().lock(), bytes),
        })
    }

    /// The same on a terminal of its own, in the place of ours (script(1)).
    ///
    /// # Errors
    /// As [`Self::attend`]; and where there is no terminal here.
    pub fn attend_terminal(&self, argv: &[&str]) -> Result<ExitStatus> {
        let terminal = RawTerminal::enter()?;
        let line: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
        let line = format!("{}exec {}", terminal.size(), line.join(" "));
        self.attend(&["script", "--quiet", "--return", "--command", &line, "/dev/null"])
    }

    /// Offers a unix socket of the machine at a path here.
    pub(super) fn offer(self, socket: PathBuf, here: &Path) -> Result<()> {
        let listener =
            UnixListener::bind(here).with_context(|| format!("listening on {}", here.display()))?;
        // Who may do what is decided by the tokens, in the machine.
        std::fs::set_permissions(here, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("protecting {}", here.display()))?;
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let socket = socket.clone();
                // One that cannot be connected is closed: its client sees that.
                std::thread::spawn(move || self.connect(socket, client));
            }
        });
        Ok(())
    }

    fn connect(self, socket: PathBuf, client: UnixStream) -> Result<()> {
        let mut inside = self.dial()?;
        speak(&mut inside, &Order::Connect { socket })?;
        let (mut from_client, mut to_inside) = (client.try_clone()?, inside.try_clone()?);
        let there = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_inside);
            to_inside.shutdown(Shutdown::Write)
        });
        let mut client = client;
        let _ = std::io::copy(&mut inside, &mut client);
        client.shutdown(Shutdown::Write)?;
        drop(there.join());
        Ok(())
    }

    fn order(&self, argv: &[&str]) -> Result<TcpStream> {
        let ours =
            |name: &str| ["TRESTLE_", "RUST_", "TERM"].iter().any(|beginning| name.starts_with(beginning));
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| ours(name));
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let mut connection = self.dial()?;
        speak(&mut connection, &Order::Run { argv, variables: variables.collect() })?;
        Ok(connection)
    }

    /// Connects from within the universe, on a thread that goes there: a socket stays in the
    /// network in which it was made.
    fn dial(&self) -> Result<TcpStream> {
        const DEADLINE: Duration = Duration::from_secs(20);
        let network = self.universe.namespace("net").context("the lab's machine is gone")?;
        let dial = || -> Result<TcpStream> {
            setns(File::open(&network)?, CloneFlags::CLONE_NEWNET)?;
            let stream = TcpStream::connect_timeout(&SocketAddrV4::new(MACHINE, PORT).into(), DEADLINE)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let dialled = std::thread::scope(|scope| scope.spawn(dial).join());
        match dialled {
            Ok(stream) => stream.context("connecting with the lab's machine"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn speak(connection: &mut TcpStream, order: &Order) -> Result<()> {
    let text = serde_json::to_vec(order).context("writing an order for the machine")?;
    frame::write(connection, Kind::Order, &text).context("speaking to the machine")
}

fn hear(connection: &mut TcpStream, mut told: impl FnMut(Stream, &[u8]) -> Result<()>) -> Result<ExitStatus> {
    loop {
        let (kind, payload) = frame::read(connection)?;
        match kind {
            Kind::Output => told(Stream::Output, &payload)?,
            Kind::Complaint => told(Stream::Complaints, &payload)?,
            Kind::End => {
                let status = payload.try_into().ok().context("a wait status of the wrong size")?;
                return Ok(ExitStatus::from_raw(i32::from_be_bytes(status)));
            }
            other => bail!("the machine sent a frame of the kind {other:?}"),
        }
    }
}

fn print(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).context("printing what the command prints")
}

fn pass_input(speaker: &Mutex<TcpStream>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = stdin().lock().read(&mut buffer).unwrap_or(0);
        if say(speaker, Kind::Input, &buffer[..length]).is_err() || length == 0 {
            return;
        }
    }
}

fn pass_signals(signals: &SigSet, speaker: &Mutex<TcpStream>) {
    while let Ok(signal) = signals.wait() {
        let number = u8::try_from(signal as i32).unwrap_or_default();
        if say(speaker, Kind::Signal, &[number]).is_err() {
            return;
        }
    }
}

fn say(speaker: &Mutex<TcpStream>, kind: Kind, payload: &[u8]) -> std::io::Result<()> {
    frame::write(&mut *speaker.lock().unwrap_or_else(PoisonError::into_inner), kind, payload)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Our terminal, which hands on every key as it is, until this is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        if !stdin().is_terminal() {
            bail!("a shell needs a terminal; without one, use `trestle lab exec`");
        }
        let before = tcgetattr(stdin()).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("changing the terminal's settings")?;
        Ok(Self(before))
    }

    /// The shell command that gives another terminal the size of ours.
    fn size(&self) -> String {
        nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call fills in what it is given (ioctl_tty(2)).
        match unsafe { window_size(nix::libc::STDIN_FILENO, &raw mut size) } {
            Ok(_) if size.ws_row > 0 => format!("stty rows {} cols {}; ", size.ws_row, size.ws_col),
            _ => String::new(),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}
