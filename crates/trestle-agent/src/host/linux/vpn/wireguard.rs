//! WireGuard: the kernel's, or wireguard-go(8) where it has none, told and asked by wg(8).

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use trestle_api::VpnConnection;
use trestle_core::types::{LinkName, Name};
use trestle_core::world::VPN_PORT;

use super::super::process;
use super::folder::Folder;
use super::netns::{has_device, inside};
use super::processes::{self, tell};
use crate::host::error::VpnError;

const WG: &str = "wg";
pub(super) const WIREGUARD_GO: &str = "wireguard-go";
/// A session that was not renewed for so long has ended, in seconds (`REJECT_AFTER_TIME`, WireGuard §6.1).
const SESSION: i64 = 180;

/// A peer, as `wg show <device> dump` tells of it.
#[derive(Debug)]
struct Peer<'a> {
    endpoint: &'a str,
    handshake: i64,
    received: u64,
    sent: u64,
}

/// Makes the device in the namespace of the calling thread: the kernel's, or by a program that runs on, whose
/// number it gives then.
pub(super) fn create(folder: &Folder, tunnel: &LinkName) -> Result<Option<i32>, VpnError> {
    match tell("ip", &["link", "add", tunnel.as_str(), "type", "wireguard"], "") {
        Ok(_) => Ok(None),
        Err(_) => start_userspace(folder, tunnel).map(Some),
    }
}

/// Gives the device its keys and its users: these and no others.
pub(super) fn configure(folder: &Folder, tunnel: &LinkName, users: &str) -> Result<(), VpnError> {
    let key = folder.path().join("private.key");
    let read = std::fs::read_to_string(&key);
    let key = read.map_err(|source| VpnError::Silent { path: key, source })?;
    let text = format!("[Interface]\nListenPort = {VPN_PORT}\nPrivateKey = {}\n{users}", key.trim());
    tell_wg(&["syncconf", tunnel.as_str(), "/proc/self/fd/0"], &text).map(drop)
}

/// Lets a user in.
pub(super) fn add_user(tunnel: &LinkName, text: &str) -> Result<(), VpnError> {
    tell_wg(&["addconf", tunnel.as_str(), "/proc/self/fd/0"], text).map(drop)
}

/// Ends whatever a user has.
pub(super) fn cut(tunnel: &LinkName, text: &str) -> Result<(), VpnError> {
    let Some(key) = public_key(text) else { return Ok(()) };
    tell_wg(&["set", tunnel.as_str(), "peer", key, "remove"], "").map(drop)
}

/// Who is connected, of these users with what the server was told of them. WireGuard does not know since when:
/// `since` remembers it.
pub(super) fn connections(
    folder: &Folder,
    tunnel: &LinkName,
    users: &BTreeMap<Name, String>,
    since: &mut BTreeMap<Name, Timestamp>,
) -> Result<BTreeMap<Name, VpnConnection>, VpnError> {
    let dump = inside(folder, || tell_wg(&["show", tunnel.as_str(), "dump"], ""))?;
    let connections = connected(&dump, users, since, Timestamp::now());
    *since = connections.iter().map(|(user, connection)| (user.clone(), connection.since)).collect();
    Ok(connections)
}

fn connected(
    dump: &str,
    users: &BTreeMap<Name, String>,
    since: &BTreeMap<Name, Timestamp>,
    now: Timestamp,
) -> BTreeMap<Name, VpnConnection> {
    let peers: BTreeMap<&str, Peer> = dump.lines().filter_map(parse_peer).collect();
    let of = |(user, text): (&Name, &String)| {
        let peer = peers.get(public_key(text)?)?;
        let begun = Timestamp::from_second(peer.handshake).ok()?;
        let connection = VpnConnection {
            remote: peer.endpoint.to_owned(),
            since: since.get(user).copied().unwrap_or(begun),
            received_bytes: peer.received,
            sent_bytes: peer.sent,
        };
        (now.as_second() - peer.handshake <= SESSION).then(|| (user.clone(), connection))
    };
    users.iter().filter_map(of).collect()
}

/// Public key, preshared key, endpoint, allowed IPs, latest handshake, bytes received, bytes sent, keepalive,
/// with tabs between. The first line is about the device itself and shorter.
fn parse_peer(line: &str) -> Option<(&str, Peer<'_>)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [key, _, endpoint, _, handshake, received, sent, _] = fields[..] else { return None };
    let (handshake, received, sent) = (handshake.parse().ok()?, received.parse().ok()?, sent.parse().ok()?);
    Some((key, Peer { endpoint, handshake, received, sent }))
}

fn public_key(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("PublicKey = "))
}

fn tell_wg(arguments: &[&str], text: &str) -> Result<String, VpnError> {
    tell(WG, arguments, text).map_err(|error| match error {
        VpnError::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            VpnError::NotInstalled { program: WG, package: "wireguard-tools" }
        }
        other => other,
    })
}

/// Starts wireguard-go, which makes the device and goes on in the background.
fn start_userspace(folder: &Folder, tunnel: &LinkName) -> Result<i32, VpnError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => VpnError::NotInstalled {
            program: "WireGuard (neither in the kernel nor wireguard-go)",
            package: WIREGUARD_GO,
        },
        _ => VpnError::Program { program: WIREGUARD_GO, source },
    };
    let start = || {
        let (log, log_start) = process::open_log(&folder.log())?;
        let mut command = processes::of_vpn(folder, WIREGUARD_GO);
        command.arg(tunnel.as_str()).stdout(log.try_clone()?).stderr(log);
        Ok((command.status()?, log_start))
    };
    let (status, log_start) = start().map_err(failed)?;
    let pid = processes::find(folder, WIREGUARD_GO).filter(|_| status.success() && has_device(tunnel));
    pid.ok_or_else(|| VpnError::Died { log: processes::said(folder, log_start) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wg 1.0.20210914 prints it.
    #[test]
    fn who_shook_hands_three_minutes_ago_at_most_is_connected() {
        let dump = "cHJpdmF0ZQ==\tcHVibGlj\t1194\toff\n\
                    QUxJQ0U=\t(none)\t198.51.100.2:40000\t10.0.0.9/32\t1795939326\t2744\t2706\toff\n\
                    Qk9C\t(none)\t(none)\t10.0.0.10/32\t0\t0\t0\toff\n";
        let text = |key: &str| format!("[Peer]\nAllowedIPs = 10.0.0.9/32\nPublicKey = {key}\n");
        let name = |name: &str| -> Name { name.parse().unwrap() };
        let users = BTreeMap::from([(name("alice-1"), text("QUxJQ0U=")), (name("bob-1"), text("Qk9C"))]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let connections = connected(dump, &users, &BTreeMap::new(), at(1_795_939_400));
        assert_eq!(connections.keys().collect::<Vec<_>>(), [&name("alice-1")]);
        let connection = &connections[&name("alice-1")];
        assert_eq!((connection.received_bytes, connection.sent_bytes), (2744, 2706));
        assert_eq!(connection.since, at(1_795_939_326));
        let since = BTreeMap::from([(name("alice-1"), at(1_795_930_000))]);
        let connections = connected(dump, &users, &since, at(1_795_939_506));
        assert_eq!(connections[&name("alice-1")].since, at(1_795_930_000));
        assert!(connected(dump, &users, &since, at(1_795_939_507)).is_empty());
    }
}
