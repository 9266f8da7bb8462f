//! openvpn(8): started, found again, stopped, and asked by its management interface (a text protocol,
//! `doc/management-notes.txt` in its sources).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};
use trestle_api::VpnConnection;
use trestle_core::types::Name;

use super::super::dnsmasq::{LOOK_AGAIN, PATIENCE};
use super::super::process::{self, Process};
use super::folder::{Folder, MANAGEMENT};
use super::processes;
use crate::host::error::VpnError;

pub(super) const OPENVPN: &str = "openvpn";
/// How long it is waited for: the loop does nothing else meanwhile. One that takes longer is found to run later.
const START_PATIENCE: Duration = Duration::from_secs(4);

/// Starts the server in the namespace of the calling thread. Gives its number and where its log begins.
pub(super) fn spawn(folder: &Folder) -> Result<(i32, u64), VpnError> {
    let start = || {
        let (log, log_start) = process::open_log(&folder.log())?;
        let mut command = processes::of_vpn(folder, OPENVPN);
        command.arg("--cd").arg(folder.path()).args(["--config", "server.conf"]);
        command.stdout(log.try_clone()?).stderr(log);
        Ok((process::spawn_apart(&mut command)?, log_start))
    };
    start().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => VpnError::NotInstalled { program: OPENVPN, package: OPENVPN },
        _ => VpnError::Program { program: OPENVPN, source },
    })
}

/// Waits until the server that was started answers.
pub(super) async fn ready(folder: &Folder, (pid, log_start): (i32, u64)) -> Result<(), VpnError> {
    let failed = |source| VpnError::Program { program: OPENVPN, source };
    let died = || VpnError::Died { log: processes::said(folder, log_start) };
    let Some(process) = Process::open(pid).map_err(failed)? else { return Err(died()) };
    let deadline = Instant::now() + START_PATIENCE;
    while Management::open(folder).await.is_err() {
        if timeout(LOOK_AGAIN, process.ended()).await.is_ok() {
            return Err(died());
        }
        if Instant::now() > deadline {
            let log = processes::said(folder, log_start);
            return Err(VpnError::NotServing { waited: START_PATIENCE, log });
        }
    }
    Ok(())
}

/// Who is connected, by the common names of their certificates.
pub(super) async fn connections(folder: &Folder) -> Result<BTreeMap<Name, VpnConnection>, VpnError> {
    let clients = Management::open(folder).await?.clients().await?;
    let of = |client: Client| Some((client.name.parse().ok()?, client.connection));
    Ok(clients.into_iter().filter_map(of).collect())
}

/// Ends the connections of a user, who is told so.
pub(super) async fn cut(folder: &Folder, user: &Name) -> Result<(), VpnError> {
    let mut management = Management::open(folder).await?;
    for client in management.clients().await?.into_iter().filter(|client| client.name == user.as_str()) {
        management.say(&format!("client-kill {} HALT", client.number)).await?;
        management.answer().await?;
    }
    Ok(())
}

/// A client, as `status 3` tells of it.
struct Client {
    name: String,
    number: u64,
    connection: VpnConnection,
}

/// `CLIENT_LIST`, common name, real address, virtual address, virtual IPv6 address, bytes received, bytes
/// sent, connected since, the same as time_t, user name, client id, ..., with tabs between.
fn parse_client(line: &str) -> Option<Client> {
    let mut fields = line.strip_prefix("CLIENT_LIST\t")?.split('\t');
    let (name, remote) = (fields.next()?, fields.next()?);
    let mut fields = fields.skip(2);
    let (received, sent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let mut fields = fields.skip(1);
    let since = Timestamp::from_second(fields.next()?.parse().ok()?).ok()?;
    let number = fields.nth(1)?.parse().ok()?;
    let connection =
        VpnConnection { remote: remote.to_owned(), since, received_bytes: received, sent_bytes: sent };
    Some(Client { name: name.to_owned(), number, connection })
}

/// The server's management interface; it speaks with one at a time.
struct Management<'a> {
    folder: &'a Folder,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl<'a> Management<'a> {
    async fn open(folder: &'a Folder) -> Result<Self, VpnError> {
        let silent = |source| VpnError::Silent { path: folder.management(), source };
        // A socket's path has 107 bytes at most (unix(7)), the folder's may be longer.
        let opened = std::fs::File::open(folder.path()).map_err(silent)?;
        let short = format!("/proc/self/fd/{}/{MANAGEMENT}", opened.as_raw_fd());
        let (read, write) = UnixStream::connect(short).await.map_err(silent)?.into_split();
        let mut opened = Self { folder, lines: BufReader::new(read).lines(), write };
        // It greets when it is ready for this one.
        opened.line().await?;
        Ok(opened)
    }

    async fn say(&mut self, command: &str) -> Result<(), VpnError> {
        let said = self.write.write_all(format!("{command}\n").as_bytes()).await;
        said.map_err(|source| self.silent(source))
    }

    fn silent(&self, source: io::Error) -> VpnError {
        VpnError::Silent { path: self.folder.management(), source }
    }

    async fn line(&mut self) -> Result<String, VpnError> {
        match timeout(PATIENCE, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(source)) => Err(self.silent(source)),
            Err(_) => Err(self.silent(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The next line that is no news told to everybody (`>INFO:`…).
    async fn answer(&mut self) -> Result<String, VpnError> {
        loop {
            let line = self.line().await?;
            if !line.starts_with('>') {
                return Ok(line);
            }
        }
    }

    async fn clients(&mut self) -> Result<Vec<Client>, VpnError> {
        self.say("status 3").await?;
        let mut clients = Vec::new();
        loop {
            match self.answer().await?.as_str() {
                "END" => return Ok(clients),
                line => clients.extend(parse_client(line)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As openvpn 2.6.14 prints it.
    #[test]
    fn a_client_is_read_from_the_status() {
        let line = "CLIENT_LIST\talice-00ff\t198.51.100.2:49124\t10.0.0.9\t\t2744\t2706\t2026-11-29 08:02:06\t1795939326\tUNDEF\t3\t0\tAES-256-GCM";
        let client = parse_client(line).unwrap();
        assert_eq!((client.name.as_str(), client.number), ("alice-00ff", 3));
        let connection = client.connection;
        assert_eq!(connection.remote, "198.51.100.2:49124");
        assert_eq!((connection.received_bytes, connection.sent_bytes), (2744, 2706));
        assert_eq!(connection.since.to_string(), "2026-11-29T08:02:06Z");
        assert!(parse_client("HEADER\tCLIENT_LIST\tCommon Name").is_none());
    }
}
