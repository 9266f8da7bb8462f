//! Who answers at a machine's door: `trestle lab door ADDRESS`, started by the machine's init.
//!
//! A command lives as long as its connection: whoever asked for it and is gone leaves nothing.

use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, Command};

use super::frame::{self, HEADER, Kind, Order, PORT};

/// What it prints when it listens.
pub(super) const READY: &str = "the machine is ready";

/// Answers until the machine is switched off.
///
/// # Errors
/// Where it cannot listen.
pub fn keep_door(address: Ipv4Addr) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime for the machine's door")?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind((address, PORT)).await.with_context(|| format!("listening on {address}"))?;
        println!("{READY}");
        loop {
            let (connection, _) = listener.accept().await.context("accepting a connection")?;
            tokio::spawn(async move {
                if let Err(error) = answer(connection).await {
                    eprintln!("door: {error:#}");
                }
            });
        }
    })
}

async fn answer(mut connection: TcpStream) -> Result<()> {
    connection.set_nodelay(true).context("setting up a connection")?;
    let (kind, payload) = read(&mut connection).await?;
    ensure!(kind == Kind::Order, "a connection began with a frame of the kind {kind:?}");
    match serde_json::from_slice(&payload).context("reading an order")? {
        Order::Run { argv, variables } => run(connection, &argv, variables).await,
        Order::Connect { socket } => {
            let inside = UnixStream::connect(&socket).await;
            let mut inside = inside.with_context(|| format!("connecting with {}", socket.display()))?;
            // Either side may close at any time.
            let _ = tokio::io::copy_bidirectional(&mut connection, &mut inside).await;
            Ok(())
        }
    }
}

async fn run(connection: TcpStream, argv: &[String], variables: Vec<(String, String)>) -> Result<()> {
    let (from_client, mut to_client) = connection.into_split();
    let (program, arguments) = argv.split_first().context("an order to run nothing")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let status = match command.spawn() {
        Ok(mut child) => attend(&mut child, from_client, &mut to_client).await?,
        Err(error) => {
            let complaint = format!("cannot start {program}: {error}\n");
            write(&mut to_client, Kind::Complaint, complaint.as_bytes()).await?;
            // As a shell says it.
            ExitStatus::from_raw(127 << 8)
        }
    };
    write(&mut to_client, Kind::End, &status.into_raw().to_be_bytes()).await
}

/// Passes on what is said in both directions until the command has ended.
async fn attend(
    child: &mut Child,
    from_client: OwnedReadHalf,
    to_client: &mut OwnedWriteHalf,
) -> Result<ExitStatus> {
    let (input, output, complaints) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = Pid::from_raw(child.id().and_then(|id| id.try_into().ok()).context("a command without id")?);
    let mut client = tokio::spawn(obey(from_client, input, group));
    let (mut output, mut complaints) =
        (Pipe::new(output, Kind::Output), Pipe::new(complaints, Kind::Complaint));
    let status = loop {
        tokio::select! {
            length = output.read() => output.pass(length, to_client).await?,
            length = complaints.read() => complaints.pass(length, to_client).await?,
            status = child.wait() => break status.context("waiting for a command")?,
            _ = &mut client => {
                // Nobody is left who could be told. It may have ended already.
                let _ = killpg(group, Signal::SIGKILL);
                break child.wait().await.context("waiting for a command")?;
            }
        }
    };
    client.abort();
    output.drain(to_client).await?;
    complaints.drain(to_client).await?;
    Ok(status)
}

/// Does what the client says, until it says no more.
async fn obey(mut from_client: OwnedReadHalf, mut input: Option<ChildStdin>, group: Pid) {
    while let Ok((kind, payload)) = read(&mut from_client).await {
        match kind {
            Kind::Input if payload.is_empty() => input = None,
            Kind::Input => {
                // A command need not read.
                if let Some(pipe) = &mut input
                    && pipe.write_all(&payload).await.is_err()
                {
                    input = None;
                }
            }
            Kind::Signal => {
                let number = payload.first().copied().unwrap_or_default();
                if let Ok(signal) = Signal::try_from(i32::from(number)) {
                    let _ = killpg(group, signal);
                }
            }
            _ => return,
        }
    }
}

/// What a command prints, up to its end.
struct Pipe<R> {
    /// `None` at its end.
    from: Option<R>,
    kind: Kind,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(from: Option<R>, kind: Kind) -> Self {
        Self { from, kind, buffer: vec![0; 1 << 16] }
    }

    /// Waits for more; for ever at the end. It may be dropped at any time, and nothing is lost.
    async fn read(&mut self) -> usize {
        match &mut self.from {
            Some(from) => from.read(&mut self.buffer).await.unwrap_or(0),
            None => std::future::pending().await,
        }
    }

    async fn pass(&mut self, length: usize, to: &mut OwnedWriteHalf) -> Result<()> {
        if length == 0 {
            self.from = None;
            return Ok(());
        }
        write(to, self.kind, &self.buffer[..length]).await
    }

    /// Passes on what a command that has ended left. Others, which it started, may hold the pipe
    /// open for as long as they like: they are not waited for.
    async fn drain(&mut self, to: &mut OwnedWriteHalf) -> Result<()> {
        const SILENCE: Duration = Duration::from_millis(500);
        while self.from.is_some() {
            let Ok(length) = tokio::time::timeout(SILENCE, self.read()).await else { break };
            self.pass(length, to).await?;
        }
        Ok(())
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<(Kind, Vec<u8>)> {
    let mut begin = [0; HEADER];
    from.read_exact(&mut begin).await.context("reading a frame")?;
    let (kind, length) = frame::read_header(begin)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await.context("reading a frame")?;
    Ok((kind, payload))
}

async fn write(to: &mut OwnedWriteHalf, kind: Kind, payload: &[u8]) -> Result<()> {
    to.write_all(&[&frame::header(kind, payload), payload].concat()).await.context("writing a frame")
}
