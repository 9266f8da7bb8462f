//! What the state folder keeps of a host: the physical devices that we enslaved, by name under
//! `uplinks`, and the files of a network's dnsmasq, under `<state folder>/networks/<network>`:
//! `dhcp-hosts/<mac>`, `dhcp-hosts/<IPv6 address>` and `dns-names/<name>`, one small file each,
//! `leases`, `pid` and `log`.
//!
//! Debian's dnsmasq serves as the user `dnsmasq`, so folders are 0755 and files 0644 whatever our
//! umask is. A file is written beside its place under a name with a dot, which dnsmasq passes over,
//! and moved there whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trestle_core::spec::{Key, Object};
use trestle_core::types::{LinkName, Mac, Name};

use crate::host::error::{ApplyError, ObserveError};

const DHCP_HOSTS: &str = "dhcp-hosts";
const DNS_NAMES: &str = "dns-names";
const STALE: &str = "stale";
/// What the files of DNS records begin with, beside those of the names that guests have by
/// themselves: no name has this, and dnsmasq does not care.
const RECORD: char = '+';

/// The file of a DNS record.
pub(super) fn record_file(name: &str) -> String {
    format!("{RECORD}{name}")
}

/// How a lease file that may just be written to is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// To observe, which is done again and must cost nothing where there is no lease yet: by when the
    /// file was changed. ext4 empties a file a moment before it says so.
    Glance,
    /// To end a lease, which is never looked at again once it seems to have ended: by waiting.
    Patient,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    state_dir: PathBuf,
}

impl Files {
    pub(super) fn new(state_dir: PathBuf) -> Self {
        Self { state_dir }
    }

    /// The agent's state folder.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What stands in a spec for this state folder, with its path.
    pub(super) fn expand(&self, text: &str) -> String {
        text.replace("%S", &self.state_dir.display().to_string())
    }

    /// The folder that has one folder for each VPN.
    pub(super) fn vpns_dir(&self) -> PathBuf {
        self.state_dir.join("vpns")
    }

    /// The folder that has one folder for each network.
    pub(super) fn networks_dir(&self) -> PathBuf {
        self.state_dir.join("networks")
    }

    /// The network's own folder.
    pub(super) fn network_dir(&self, network: &Name) -> PathBuf {
        self.networks_dir().join(network.as_str())
    }

    /// The folder of entries for MACs and for IPv6 addresses.
    pub(super) fn dhcp_hosts_dir(&self, network: &Name) -> PathBuf {
        self.network_dir(network).join(DHCP_HOSTS)
    }

    /// The folder of DNS names.
    pub(super) fn dns_names_dir(&self, network: &Name) -> PathBuf {
        self.network_dir(network).join(DNS_NAMES)
    }

    /// Which folders these two are, told apart from any that were or will be in their place: a
    /// number may be given again at once (ext4 does), but not with the same time of birth.
    pub(super) fn folders(&self, network: &Name) -> io::Result<String> {
        let hosts = folder_identity(&self.dhcp_hosts_dir(network))?;
        Ok(format!("{hosts} {}", folder_identity(&self.dns_names_dir(network))?))
    }

    /// Where dnsmasq writes its number.
    pub(super) fn pid(&self, network: &Name) -> PathBuf {
        self.network_dir(network).join("pid")
    }

    /// What dnsmasq says.
    pub(super) fn log(&self, network: &Name) -> PathBuf {
        self.network_dir(network).join("log")
    }

    fn lease_file(&self, network: &Name) -> PathBuf {
        self.network_dir(network).join("leases")
    }

    /// Makes the network's folders.
    pub(super) fn create_network(&self, network: &Name) -> Result<(), ApplyError> {
        let own = self.network_dir(network);
        for folder in [self.networks_dir(), own.clone(), own.join(DHCP_HOSTS), own.join(DNS_NAMES)] {
            create_folder(&folder)?;
        }
        Ok(())
    }

    /// Deletes what dnsmasq left behind, and the folders if nothing else is in them.
    pub(super) fn forget_leases(&self, network: &Name) -> Result<(), ApplyError> {
        let stale = self.network_dir(network).join(STALE);
        for file in [self.lease_file(network), self.pid(network), self.log(network), stale] {
            delete_file(file)?;
        }
        for folder in [self.dhcp_hosts_dir(network), self.dns_names_dir(network), self.network_dir(network)] {
            match fs::remove_dir(&folder) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    return Err(ApplyError::File { operation: "delete", path: folder, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes dnsmasq's entry for a MAC.
    pub(super) fn write_dhcp_host(
        &self,
        network: &Name,
        mac: Mac,
        address: Ipv4Addr,
        hostname: &Name,
    ) -> Result<(), ApplyError> {
        self.create_network(network)?;
        let line = format!("{mac},{address},{hostname}\n");
        write_whole(&self.dhcp_hosts_dir(network), &mac.to_string(), &line)
    }

    /// Writes dnsmasq's entry for an IPv6 address.
    pub(super) fn write_dhcp_host6(
        &self,
        network: &Name,
        address: Ipv6Addr,
        mac: Mac,
        hostname: &Name,
    ) -> Result<(), ApplyError> {
        self.create_network(network)?;
        let line = format!("{mac},[{address}],{hostname}\n");
        write_whole(&self.dhcp_hosts_dir(network), &address.to_string(), &line)
    }

    /// Deletes dnsmasq's entry for a MAC or an IPv6 address, if it is there, after noting that
    /// dnsmasq must be told: a crash between the two leaves the note.
    pub(super) fn delete_dhcp_host(&self, network: &Name, entry: &str) -> Result<(), ApplyError> {
        if self.network_dir(network).exists() {
            write_whole(&self.network_dir(network), STALE, "")?;
        }
        delete_file(self.dhcp_hosts_dir(network).join(entry))
    }

    /// Whether entries were deleted that dnsmasq has not been told of.
    pub(super) fn is_stale(&self, network: &Name) -> bool {
        self.network_dir(network).join(STALE).exists()
    }

    /// Notes that dnsmasq knows of every deleted entry.
    pub(super) fn not_stale(&self, network: &Name) -> Result<(), ApplyError> {
        delete_file(self.network_dir(network).join(STALE))
    }

    /// Writes a DNS name, in the form of hosts(5).
    pub(super) fn write_dns_name(
        &self,
        network: &Name,
        (file, name): (&str, &str),
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(), ApplyError> {
        self.create_network(network)?;
        let lines: String = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
        write_whole(&self.dns_names_dir(network), file, &lines)
    }

    /// Deletes the file of a DNS name, if it is there.
    pub(super) fn delete_dns_name(&self, network: &Name, file: &str) -> Result<(), ApplyError> {
        delete_file(self.dns_names_dir(network).join(file))
    }

    /// Lists a physical device as enslaved by us. The kernel keeps no mark for it, and what someone
    /// else put into a bridge of ours is not ours to take out.
    pub(super) fn list_uplink(&self, link: &LinkName) -> Result<(), ApplyError> {
        let folder = self.uplinks_dir();
        create_folder(&folder)?;
        write_whole(&folder, link.as_str(), "")
    }

    /// Takes a device off the list, if it is there.
    pub(super) fn unlist_uplink(&self, link: &LinkName) -> Result<(), ApplyError> {
        delete_file(self.uplinks_dir().join(link.as_str()))
    }

    /// The physical devices that we enslaved.
    pub(super) fn uplinks(&self) -> Result<BTreeSet<String>, ObserveError> {
        Ok(file_names(&self.uplinks_dir())?.into_iter().collect())
    }

    fn uplinks_dir(&self) -> PathBuf {
        self.state_dir.join("uplinks")
    }

    /// The networks that have a folder.
    pub(super) fn networks(&self) -> Result<Vec<Name>, ObserveError> {
        Ok(file_names(&self.networks_dir())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// What has an entry: MACs and IPv6 addresses, by key.
    pub(super) fn dhcp_hosts(&self, network: &Name) -> Result<Vec<Key>, ObserveError> {
        let names = file_names(&self.dhcp_hosts_dir(network))?;
        let key = |name: &String| {
            let of_mac = spelt(name).map(|mac| Key::DhcpHost(network.clone(), mac));
            of_mac.or_else(|| Some(Key::DhcpHost6(network.clone(), spelt(name)?)))
        };
        Ok(names.iter().filter_map(key).collect())
    }

    /// The DNS names and records, by key.
    pub(super) fn dns_names(&self, network: &Name) -> Result<Vec<Key>, ObserveError> {
        let files = file_names(&self.dns_names_dir(network))?.into_iter();
        let key = |file: String| match file.strip_prefix(RECORD) {
            Some(name) => Key::DnsRecord(network.clone(), name.to_owned()),
            None => Key::DnsName(network.clone(), file),
        };
        Ok(files.filter(|file| !file.starts_with('.')).map(key).collect())
    }

    /// The entry for a MAC. One that says something else than an entry for this MAC reads as one
    /// for no address, so that it differs from every spec.
    pub(super) fn dhcp_host(&self, network: &Name, mac: Mac) -> Result<Option<Object>, ObserveError> {
        let text = read(self.dhcp_hosts_dir(network).join(mac.to_string()))?;
        Ok(text.and_then(|text| parse_dhcp_host(mac, &text).or_else(unreadable_host)))
    }

    /// The entry for an IPv6 address. One that says something else reads as one for nobody, as above.
    pub(super) fn dhcp_host6(
        &self,
        network: &Name,
        address: Ipv6Addr,
    ) -> Result<Option<Object>, ObserveError> {
        let text = read(self.dhcp_hosts_dir(network).join(address.to_string()))?;
        Ok(text.and_then(|text| parse_dhcp_host6(address, &text).or_else(unreadable_host6)))
    }

    /// The addresses of a DNS name; of one that cannot be read there are none, as above.
    pub(super) fn dns_name(
        &self,
        network: &Name,
        (file, name): (&str, &str),
    ) -> Result<Option<Object>, ObserveError> {
        let text = read(self.dns_names_dir(network).join(file))?;
        let parse = |text: String| {
            let address = |line: &str| line.strip_suffix(name)?.strip_suffix(' ')?.parse().ok();
            let whole = text.strip_suffix('\n').unwrap_or_default();
            let addresses: Option<BTreeSet<IpAddr>> = whole.split('\n').map(address).collect();
            Object::DnsName(addresses.unwrap_or_default())
        };
        Ok(text.map(parse))
    }

    /// The leases of a network, by key.
    pub(super) fn leases(&self, network: &Name) -> Result<BTreeMap<Key, Object>, ObserveError> {
        let lease = |line: &str| {
            let of_mac = |(mac, address)| (Key::Lease(network.clone(), mac), Object::Lease(address));
            let of_address = |(address, lease)| (Key::Lease6(network.clone(), address), lease);
            parse_lease(line).map(of_mac).or_else(|| parse_lease6(line).map(of_address))
        };
        Ok(self.lease_text(network, Reading::Glance)?.lines().filter_map(lease).collect())
    }

    /// The address that a MAC has a lease for.
    pub(super) fn lease(
        &self,
        network: &Name,
        mac: Mac,
        reading: Reading,
    ) -> Result<Option<Ipv4Addr>, ObserveError> {
        let (text, of_mac) = (self.lease_text(network, reading)?, format!(" {mac} "));
        let lease = text.lines().filter(|line| line.contains(&of_mac)).find_map(parse_lease);
        Ok(lease.map(|(_, address)| address))
    }

    /// Who leases an IPv6 address.
    pub(super) fn lease6(
        &self,
        network: &Name,
        address: Ipv6Addr,
        reading: Reading,
    ) -> Result<Option<Object>, ObserveError> {
        let (text, of_address) = (self.lease_text(network, reading)?, format!(" {address} "));
        let lease = text.lines().filter(|line| line.contains(&of_address)).find_map(parse_lease6);
        Ok(lease.map(|(_, lease)| lease))
    }

    /// The id under which dnsmasq serves DHCPv6 (RFC 8415 §11); it makes one up and keeps it with the
    /// leases.
    pub(super) fn server_id(&self, network: &Name) -> Result<Option<String>, ObserveError> {
        let text = self.lease_text(network, Reading::Patient)?;
        Ok(text.lines().find_map(|line| line.strip_prefix("duid ")).map(str::to_owned))
    }

    /// dnsmasq empties the file and writes it anew, by the buffers of its stdio. What ends within a
    /// line, is empty or fills whole buffers may be such a moment's: it is read again until it can be
    /// believed. A line that stays without its end was cut off by a full disk and is no lease.
    fn lease_text(&self, network: &Name, reading: Reading) -> Result<String, ObserveError> {
        const BUFFER: usize = 4096;
        let (path, begun) = (self.lease_file(network), Instant::now());
        loop {
            let Some(mut text) = read(path.clone())? else { return Ok(String::new()) };
            if text.ends_with('\n') && !text.len().is_multiple_of(BUFFER) {
                return Ok(text);
            }
            // In this order: what was written to meanwhile is read again.
            if reading.believes(&path, begun)? {
                text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
                return Ok(text);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Reading {
    fn believes(self, path: &Path, begun: Instant) -> Result<bool, ObserveError> {
        /// Longer than dnsmasq takes, and than the kernel's clock for files stands still.
        const AGO: Duration = Duration::from_millis(30);
        /// Longer than a file system takes that has others' writes to finish first.
        const PATIENCE: Duration = Duration::from_millis(200);
        match self {
            // A change from the future was long ago, by a clock that was wrong.
            Self::Glance => {
                Ok(last_change(path)?.is_none_or(|changed| changed.elapsed().map_or(true, |ago| ago > AGO)))
            }
            Self::Patient => Ok(begun.elapsed() > PATIENCE),
        }
    }
}

fn parse_dhcp_host(mac: Mac, text: &str) -> Option<Object> {
    let mut parts = text.strip_suffix('\n')?.split(',');
    let is_for_mac = parts.next()? == mac.to_string();
    let entry =
        Object::DhcpHost { address: parts.next()?.parse().ok()?, hostname: parts.next()?.parse().ok()? };
    (is_for_mac && parts.next().is_none()).then_some(entry)
}

fn unreadable_host() -> Option<Object> {
    let hostname = "unreadable".parse().ok()?;
    Some(Object::DhcpHost { address: Ipv4Addr::UNSPECIFIED, hostname })
}

fn parse_dhcp_host6(address: Ipv6Addr, text: &str) -> Option<Object> {
    let mut parts = text.strip_suffix('\n')?.split(',');
    let mac = parts.next()?.parse().ok()?;
    let is_for_address = parts.next()? == format!("[{address}]");
    let entry = Object::DhcpHost6 { mac, hostname: parts.next()?.parse().ok()? };
    (is_for_address && parts.next().is_none()).then_some(entry)
}

fn unreadable_host6() -> Option<Object> {
    let (mac, hostname) = ("02:00:00:00:00:00".parse().ok()?, "unreadable".parse().ok()?);
    Some(Object::DhcpHost6 { mac, hostname })
}

/// What a file's name says, if it is spelt as we do.
fn spelt<T: FromStr + ToString>(name: &str) -> Option<T> {
    name.parse().ok().filter(|value: &T| value.to_string() == name)
}

/// `EXPIRY MAC ADDRESS HOSTNAME CLIENT-ID`; IPv6 leases and the server's own id do not parse.
fn parse_lease(line: &str) -> Option<(Mac, Ipv4Addr)> {
    let mut parts = line.split(' ').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `EXPIRY IAID ADDRESS HOSTNAME DUID`.
fn parse_lease6(line: &str) -> Option<(Ipv6Addr, Object)> {
    let mut parts = line.split(' ').skip(1);
    let (iaid, address) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let client = parts.nth(1)?.to_owned();
    Some((address, Object::Lease6 { client, iaid }))
}

/// Number and time of birth, which not every file system keeps.
fn folder_identity(path: &Path) -> io::Result<String> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("none".to_owned()),
        other => other?,
    };
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{}@{}", metadata.ino(), born.unwrap_or_default().as_nanos()))
}

pub(super) fn create_folder(path: &Path) -> Result<(), ApplyError> {
    let failed = |source| ApplyError::File { operation: "make", path: path.to_owned(), source };
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn write_whole(folder: &Path, name: &str, text: &str) -> Result<(), ApplyError> {
    let (draft, path) = (folder.join(format!(".{name}")), folder.join(name));
    let write = || {
        fs::write(&draft, text)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o644))?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| ApplyError::File { operation: "write", path: path.clone(), source })
}

pub(super) fn delete_file(path: PathBuf) -> Result<(), ApplyError> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ApplyError::File { operation: "delete", path, source })
        }
        _ => Ok(()),
    }
}

pub(super) fn read(path: PathBuf) -> Result<Option<String>, ObserveError> {
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ObserveError::File { path, source }),
    }
}

/// When the file was last written to, if it is there.
fn last_change(path: &Path) -> Result<Option<SystemTime>, ObserveError> {
    match fs::metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(changed) => Ok(Some(changed)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ObserveError::File { path: path.to_owned(), source }),
    }
}

pub(super) fn file_names(folder: &Path) -> Result<Vec<String>, ObserveError> {
    let failed = |source| ObserveError::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let names: Vec<Option<String>> = entries.map(name).collect::<io::Result<_>>().map_err(failed)?;
    Ok(names.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nonsense_differs_from_every_spec() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        let (network, mac): (Name, Mac) = ("public".parse().unwrap(), "fa:16:3e:00:00:01".parse().unwrap());
        let address = Ipv4Addr::new(10, 0, 0, 5);
        files.write_dhcp_host(&network, mac, address, &"web".parse().unwrap()).unwrap();
        let entry = Object::DhcpHost { address, hostname: "web".parse().unwrap() };
        assert_eq!(files.dhcp_host(&network, mac).unwrap(), Some(entry));
        let address6: Ipv6Addr = "fd00::5".parse().unwrap();
        files.write_dhcp_host6(&network, address6, mac, &"web".parse().unwrap()).unwrap();
        let entry = Object::DhcpHost6 { mac, hostname: "web".parse().unwrap() };
        assert_eq!(files.dhcp_host6(&network, address6).unwrap(), Some(entry));
        let keys: BTreeSet<Key> = files.dhcp_hosts(&network).unwrap().into_iter().collect();
        let (key, key6) = (Key::DhcpHost(network.clone(), mac), Key::DhcpHost6(network.clone(), address6));
        assert_eq!(keys, [key, key6].into());

        fs::write(files.dhcp_hosts_dir(&network).join(mac.to_string()), "rubbish").unwrap();
        assert_eq!(files.dhcp_host(&network, mac).unwrap(), unreadable_host());
        let of_another = format!("{mac},[fd00::6],web\n");
        fs::write(files.dhcp_hosts_dir(&network).join(address6.to_string()), of_another).unwrap();
        assert_eq!(files.dhcp_host6(&network, address6).unwrap(), unreadable_host6());

        let (name, addresses) = ("web.trestle.internal", BTreeSet::from([address.into(), address6.into()]));
        let record = Key::DnsRecord(network.clone(), name.to_owned());
        let both = [(name, Key::DnsName(network.clone(), name.to_owned())), (&*record_file(name), record)];
        for (file, _) in &both {
            files.write_dns_name(&network, (file, name), &addresses).unwrap();
            assert_eq!(
                files.dns_name(&network, (file, name)).unwrap(),
                Some(Object::DnsName(addresses.clone()))
            );
        }
        let mut there = files.dns_names(&network).unwrap();
        there.sort();
        assert_eq!(there, both.map(|(_, key)| key));
        fs::write(files.dns_names_dir(&network).join(name), format!("{address} {name}\nrubbish\n")).unwrap();
        assert_eq!(files.dns_name(&network, (name, name)).unwrap(), Some(Object::DnsName(BTreeSet::new())));
    }

    #[test]
    fn leases_are_those_of_both_families_and_the_servers_id_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (files, network) = (Files::new(folder.path().to_owned()), "public".parse().unwrap());
        files.create_network(&network).unwrap();
        let text = "1795462913 fa:16:3e:00:00:01 10.0.0.5 web 01:fa:16:3e:00:00:01\n\
                    duid 00:01:00\n\
                    1795462913 9 fd00::5 web 00:03:00:01:fa:16:3e:00:00:01\n";
        fs::write(files.lease_file(&network), text).unwrap();
        let lease6 = Object::Lease6 { client: "00:03:00:01:fa:16:3e:00:00:01".to_owned(), iaid: 9 };
        let leases: Vec<_> = files.leases(&network).unwrap().into_iter().collect();
        let key = Key::Lease(network.clone(), "fa:16:3e:00:00:01".parse().unwrap());
        let key6 = Key::Lease6(network.clone(), "fd00::5".parse().unwrap());
        assert_eq!(leases, [(key, Object::Lease(Ipv4Addr::new(10, 0, 0, 5))), (key6, lease6.clone())]);
        let lease = files.lease6(&network, "fd00::5".parse().unwrap(), Reading::Glance);
        assert_eq!(lease.unwrap(), Some(lease6));
        assert_eq!(files.server_id(&network).unwrap().unwrap(), "00:01:00");
    }

    /// As dnsmasq does, on a file system that is slow to say that a file was changed.
    #[test]
    fn a_lease_has_not_ended_while_its_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (files, network): (_, Name) = (Files::new(folder.path().to_owned()), "public".parse().unwrap());
        files.create_network(&network).unwrap();
        let text = "duid 00:01:00\n1795462913 9 fd00::5 web 00:03:00:01:fa:16:3e:00:00:01\n";
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let rewrite = || {
            let file = fs::File::create(files.lease_file(&network)).unwrap();
            file.set_modified(long_ago).unwrap();
            std::thread::sleep(Duration::from_millis(5));
            fs::write(files.lease_file(&network), text).unwrap();
        };
        rewrite();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..20).for_each(|_| rewrite()));
            while !writer.is_finished() {
                let lease = files.lease6(&network, "fd00::5".parse().unwrap(), Reading::Patient);
                assert!(lease.unwrap().is_some());
                assert!(files.server_id(&network).unwrap().is_some());
            }
        });
        fs::write(files.lease_file(&network), "").unwrap();
        let lease = files.lease6(&network, "fd00::5".parse().unwrap(), Reading::Patient);
        assert_eq!(lease.unwrap(), None, "an empty file is believed in the end");
    }
}
