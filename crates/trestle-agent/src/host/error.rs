//! What can go wrong on a host. Every error names the operation and the object; what the kernel
//! or a program said is the chained cause.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use trestle_core::spec::{Flows, Set};
use trestle_core::types::{LinkName, Mac, Name, VlanId};

/// Why a host cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A program is not in `PATH`.
    #[error("the program `{program}` is missing; install the Debian package `{package}`")]
    ProgramMissing {
        /// What was looked for.
        program: &'static str,
        /// Where Debian has it.
        package: &'static str,
    },
    /// The nftables library cannot be used.
    #[error("cannot use libnftables.so.1; install the Debian package `libnftables1`")]
    Library(#[source] NftError),
    /// A socket to the kernel cannot be opened.
    #[error("cannot open a netlink socket for {purpose}")]
    Socket {
        /// What it is for.
        purpose: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The state folder cannot be made or read.
    #[error("cannot use the state folder {path}")]
    StateDir {
        /// The folder, or what lies in it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A network namespace to try the kernel in cannot be made.
    #[error("cannot make a network namespace to try in what the kernel can do")]
    Namespace(#[source] io::Error),
    /// What the kernel can do cannot be found out.
    #[error("cannot find out whether the kernel has 802.1Q")]
    Try(#[source] Box<ApplyError>),
}

/// Why nothing can be said about what a host has.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// Nobody can be asked who has an address.
    #[error("cannot ask on {link} who has an address")]
    Probe {
        /// The device.
        link: LinkName,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not list something.
    #[error("cannot list {what}")]
    List {
        /// What was to be listed.
        what: String,
        /// What the kernel said.
        source: NetlinkError,
    },
    /// nftables did not list something.
    #[error("cannot list {what} of nftables")]
    Nftables {
        /// What was to be listed.
        what: String,
        /// What it said.
        source: NftError,
    },
    /// A socket to the kernel cannot be opened.
    #[error("cannot open a netlink socket")]
    Socket(#[source] io::Error),
    /// A program did not say what it was asked.
    #[error("cannot ask `{program}`")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel gives a bridge 1,023 ports (`BR_MAX_PORTS`, `net/bridge/br_private.h`).
    #[error("bridge {bridge} is full: the kernel gives a bridge 1,023 ports")]
    BridgeFull {
        /// The bridge.
        bridge: LinkName,
    },
    /// What the step rests on is not there.
    #[error("there is no device {link}")]
    LinkMissing {
        /// The device.
        link: LinkName,
    },
    /// The device exists as something else.
    #[error("a device {link} exists and is not what it should be")]
    LinkDiffers {
        /// The device.
        link: LinkName,
    },
    /// The kernel can make no VLAN devices.
    #[error("cannot make {link}: this kernel has no 802.1Q (CONFIG_VLAN_8021Q)")]
    No8021q {
        /// The VLAN device.
        link: LinkName,
    },
    /// The kernel cannot filter what is bridged.
    #[error(
        "cannot filter what is bridged on {bridge}: the kernel's module br_netfilter cannot be loaded; try `modprobe br_netfilter`"
    )]
    NoBridgeFilter {
        /// The bridge.
        bridge: LinkName,
    },
    /// Another program made a device of the VLAN under another name.
    #[error("VLAN {id} of {parent} is another device's already")]
    VlanTaken {
        /// The VLAN.
        id: VlanId,
        /// The device that carries it.
        parent: LinkName,
    },
    /// A guest is to have the MAC of a device of the host's own.
    #[error("{mac} is the MAC of a device of this host on {bridge}; give the interface another")]
    MacOfHost {
        /// The MAC.
        mac: Mac,
        /// The bridge that the host's device is, or is in.
        bridge: LinkName,
    },
    /// What is to be held fast at a device is for another bridge than that which the device is in.
    #[error("{link} is no port of {bridge}")]
    NoPort {
        /// The device.
        link: LinkName,
        /// The bridge.
        bridge: LinkName,
    },
    /// Neighbours cannot be told where an address is.
    #[error("cannot tell the neighbours on {bridge} where {mac} is")]
    Announce {
        /// The bridge.
        bridge: LinkName,
        /// Whose addresses they are.
        mac: Mac,
        /// What the kernel said.
        source: io::Error,
    },
    /// Flows go on that should have ended.
    #[error("cannot end the flows between {flows}")]
    Flows {
        /// Which.
        flows: Flows,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Flows go on that go by no way that there is.
    #[error("cannot {step}")]
    Strays {
        /// What was to be done.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace of a veth's other end cannot be opened.
    #[error("cannot open the network namespace {path}")]
    Netns {
        /// Its path.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What a veth's other end is to go into is something else.
    #[error("{path} is no network namespace")]
    NoNetns {
        /// Its path.
        path: String,
    },
    /// The kernel refused a change.
    #[error("cannot {operation}")]
    Kernel {
        /// What was to be done, with the object: `set the MTU of tr-000000abcdef`.
        operation: String,
        /// What the kernel said.
        source: NetlinkError,
    },
    /// A file cannot be written, read or deleted; a sysctl is a file.
    #[error("cannot {operation} {path}")]
    File {
        /// `write`, `delete`, …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The transaction this step is part of was refused as a whole.
    #[error("nftables refused the change")]
    Nftables(#[source] Arc<NftError>),
    /// A chain of security groups cannot be made. What it was before, if it was there, goes on.
    #[error("nftables refused these rules, and those from before go on")]
    Chain(#[source] Arc<NftError>),
    /// A step before this one failed, and doing this one would leave the host worse off: a device
    /// without its guard, or addresses where nothing reaches them.
    #[error("not tried, because a step that it rests on failed")]
    NotTried,
    /// What the step rests on cannot be looked at.
    #[error("cannot see what is there before changing it")]
    Observe(#[from] ObserveError),
    /// Instances cannot be answered.
    #[error("cannot answer instances for the metadata service on port {port}")]
    MetadataProxy {
        /// The TCP port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("cannot run {program}")]
    Program {
        /// Which.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A VPN cannot be run.
    #[error("cannot run VPN {vpn}")]
    Vpn {
        /// Which.
        vpn: Name,
        /// Why.
        source: VpnError,
    },
    /// dnsmasq ended at once.
    #[error("the dnsmasq of {network} ended at once; its log ends:\n{log}")]
    DnsmasqDied {
        /// The network.
        network: Name,
        /// The last lines of its log.
        log: String,
    },
    /// dnsmasq runs and does not get ready.
    #[error("the dnsmasq of {network} is not serving after {waited:?}; its log ends:\n{log}")]
    DnsmasqNotServing {
        /// The network.
        network: Name,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A process does not end.
    #[error("cannot stop the dnsmasq of {network} (pid {pid})")]
    Stop {
        /// The network.
        network: Name,
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// dnsmasq was not brought to end a lease.
    #[error("{network} still leases {address} to {holder} {waited:?} after {program} ended with {status}")]
    LeaseHeld {
        /// The network.
        network: Name,
        /// The leased address.
        address: IpAddr,
        /// Who holds it: a MAC, or a client's DUID.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was to end it.
        program: &'static str,
        /// How that ended.
        status: ExitStatus,
    },
    /// A lease cannot be ended because the server's own id is not in its lease file.
    #[error("the lease file of {network} does not say which server leases {address}")]
    NoServerId {
        /// The network.
        network: Name,
        /// The leased address.
        address: Ipv6Addr,
    },
}

/// Why a VPN cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum VpnError {
    /// A program that it takes is not there.
    #[error("{program} is not installed on this host: install the package {package}")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// Nobody gives its keys.
    #[error("its keys cannot be had")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificates would be taken for not yet good, or for ended.
    #[error(
        "the clock of this host says {here}, the controller's {there}: certificates would be refused, so set the clock"
    )]
    Clock {
        /// This host's.
        here: Timestamp,
        /// The controller's.
        there: Timestamp,
    },
    /// Its namespace cannot be made or entered.
    #[error("cannot {operation} its network namespace")]
    Netns {
        /// `make`, `enter`, …
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A kernel setting there cannot be set.
    #[error("cannot set {name} in its network namespace")]
    Setting {
        /// The setting's dotted name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("cannot run {program}")]
    Program {
        /// Which.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program did not do what it was told.
    #[error("{program} says: {output}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Its own words.
        output: String,
    },
    /// The server ended at once.
    #[error("its server ended at once; its log ends: {log}")]
    Died {
        /// The last lines of its log.
        log: String,
    },
    /// The server runs and does not get ready.
    #[error("its server is not ready after {waited:?}; its log ends: {log}")]
    NotServing {
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The server does not answer questions about its clients.
    #[error("its server does not answer at {path}")]
    Silent {
        /// Where it is asked.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server does not end.
    #[error("cannot stop its server (pid {pid})")]
    Stop {
        /// The process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a netlink request came to, other than well.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel answered with an error number.
    #[error("the kernel says: {0}")]
    Refused(#[source] io::Error),
    /// The kernel's tables changed while they were listed, each time.
    #[error("the kernel's tables changed during each of {0} listings")]
    Interrupted(u32),
    /// The request did not reach the kernel or the answer did not come back.
    #[error("the netlink socket failed")]
    Socket(#[source] rtnetlink::Error),
}

impl NetlinkError {
    /// The kernel's error number, if it gave one.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        match self {
            Self::Refused(error) => error.raw_os_error().map(nix::errno::Errno::from_raw),
            Self::Interrupted(_) | Self::Socket(_) => None,
        }
    }
}

/// What libnftables did not do.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The library or one of its functions is not there.
    #[error("the library cannot be loaded")]
    Load(#[source] libloading::Error),
    /// The library gave no context.
    #[error("the library cannot reach the kernel's nftables")]
    Context,
    /// It refused what it was told.
    #[error("nft says: {message}")]
    Refused {
        /// Its own words, with line and column.
        message: String,
    },
    /// Its answer is not what it prints.
    #[error("its answer cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The generation of the rules cannot be asked for.
    #[error("cannot ask for the generation of the rules")]
    Generation(#[source] io::Error),
    /// The kernel gave no random number.
    #[error("cannot read a random number")]
    Random(#[source] io::Error),
    /// Whether an element is there cannot be asked for.
    #[error("cannot ask whether an element is in the set {set}")]
    Query {
        /// The set.
        set: Set,
        /// What the kernel said.
        source: io::Error,
    },
    /// The chains that a text makes cannot be worked out apart from the host's own.
    #[error("cannot make a network namespace to compare rules in")]
    Namespace(#[source] io::Error),
    /// An element that was listed is not of a form that we write.
    #[error("the set {set} holds `{element}`, which is of no form we write")]
    Element {
        /// The set.
        set: Set,
        /// What it holds.
        element: String,
    },
    /// The thread that speaks to nftables is gone.
    #[error("the thread that speaks to nftables ended")]
    Gone,
}
