//! The machine the agent runs on: rtnetlink, nftables, dnsmasq and `/proc/sys`.
//!
//! Everything happens in the network namespace of the thread that opens the host. Nothing here
//! knows what ought to be: an `if` is about what the kernel says, never about what to want.

mod address;
mod announce;
mod bridge;
mod conntrack;
pub(crate) mod discover;
mod dnsmasq;
pub(crate) mod features;
mod files;
mod libnftables;
mod link;
pub(crate) mod look;
mod netconf;
mod netlink;
mod nfnetlink;
mod nftables;
mod observe;
mod probe;
mod process;
mod release;
mod route;
mod station;
mod sysctl;
mod tap;
mod vlan;
mod vpn;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use ipnet::IpNet;
use trestle_api::VpnConnection;
use trestle_api::agent::{Feature, RuleCounter};
use trestle_core::ownership::{DEVICE_PREFIX, Owner};
use trestle_core::plan::Step;
use trestle_core::spec::{Dnsmasq, Flows, HostSpec, Key, LinkKind, Set, Table};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Mac, Name};

use super::{ApplyError, Change, Host, ObserveError, OpenError, StepFailure};
use crate::metadata::{Identity, Metadata, MetadataSecret};
use crate::vpn_keys::VpnKeys;
use announce::{Announcer, Role};
use dnsmasq::DNSMASQ;
use files::{Files, record_file};
use netlink::Netlink;
use nftables::Nftables;
use release::{DHCP_RELEASE, DHCP_RELEASE6, Lease4, Lease6};
use vpn::Vpns;
use watch::{Touched, Watch};

/// How often a floating IP is announced: the wire is others', and who misses it sends to the host
/// before (reference LX-81).
const FLOATING_ANNOUNCED: usize = 3;

/// The machine the agent runs on.
#[derive(Debug)]
pub struct LinuxHost {
    netlink: Netlink,
    nftables: Nftables,
    announcer: Announcer,
    files: Files,
    watch: Watch,
    metadata: Metadata,
    vpns: Vpns,
    missing_features: BTreeSet<Feature>,
}

impl LinuxHost {
    /// Checks that everything needed is there and begins to listen. Needs a tokio runtime around
    /// it, root's rights, and the network namespace it is to work in to be that of every thread
    /// of the runtime.
    ///
    /// With the secret it signs for instances to the metadata service.
    pub fn open(state_dir: &Path, secret: Option<MetadataSecret>) -> Result<Self, OpenError> {
        find_program(DNSMASQ, "dnsmasq-base")?;
        find_program(DHCP_RELEASE, "dnsmasq-utils")?;
        find_program(DHCP_RELEASE6, "dnsmasq-utils")?;
        let unusable = |source| OpenError::StateDir { path: state_dir.to_owned(), source };
        let files = Files::new(std::fs::canonicalize(state_dir).map_err(unusable)?);
        let nftables = Nftables::open().map_err(OpenError::Library)?;
        let socket = |source| OpenError::Socket { purpose: "devices, addresses and routes", source };
        let netlink = Netlink::open().map_err(socket)?;
        let announcing = |source| OpenError::Socket { purpose: "announcements", source };
        let announcer = Announcer::open().map_err(announcing)?;
        let watch = Watch::open(netlink.port(), files.clone(), nftables.clone())?;
        let (metadata, missing_features) = (Metadata::new(secret), features::missing()?);
        let vpns = Vpns::default();
        Ok(Self { netlink, nftables, announcer, files, watch, metadata, vpns, missing_features })
    }

    /// Has the keys of VPNs from there; without it no VPN is started.
    pub fn take_vpn_keys_from(&mut self, keys: Arc<dyn VpnKeys>) {
        self.vpns.keys = Some(keys);
    }

    async fn apply_batch(&self, batch: &[&Step]) -> Vec<StepFailure> {
        let attempts = batch.iter().map(|step| async move {
            let error = self.apply_step(step).await.err()?;
            Some(StepFailure { step: (*step).clone(), error })
        });
        join_all(attempts).await.into_iter().flatten().collect()
    }

    async fn delete_ports<'a>(&self, batch: &[&'a Step]) -> Vec<StepFailure> {
        batch.iter().for_each(|step| self.touch(step));
        let link = |step: &&'a Step| match step {
            Step::DeletePort { link } => Some(link),
            _ => None,
        };
        let links = batch.iter().filter_map(link).collect();
        if let Err(error) = link::delete_together(&self.netlink, &links).await {
            tracing::debug!(%error, "devices are deleted one by one");
        }
        self.apply_batch(batch).await
    }

    async fn end_all_flows(&self, batch: &[&Step]) -> Vec<StepFailure> {
        let flows = |step: &Step| match step {
            Step::EndFlows { flows } | Step::EndLateFlows { flows } => Some(flows.clone()),
            _ => None,
        };
        let all = batch.iter().filter_map(|step| flows(step)).collect();
        let Err(error) = end_flows(all).await else { return Vec::new() };
        let source = Arc::new(error);
        let failure = |step: &&Step| {
            let error = ApplyError::Flows { flows: flows(step)?, source: Arc::clone(&source) };
            Some(StepFailure { step: (*step).clone(), error })
        };
        batch.iter().filter_map(failure).collect()
    }

    async fn end_all_strays(&self, batch: &[&Step]) -> Vec<StepFailure> {
        let Err(error) = end_strays(batch).await else { return Vec::new() };
        let failure = |step: &&Step| {
            let error = io::Error::new(error.kind(), error.to_string());
            StepFailure { step: (*step).clone(), error: strays_failed(step, error) }
        };
        batch.iter().map(failure).collect()
    }

    async fn transact(&self, batch: &[&Step]) -> Vec<StepFailure> {
        let steps = batch.iter().map(|step| (*step).clone()).collect();
        let error = match self.nftables.transact(steps).await {
            Ok(bad) => {
                let failure = |(step, error)| StepFailure { step, error: ApplyError::Chain(Arc::new(error)) };
                return bad.into_iter().map(failure).collect();
            }
            Err(error) => Arc::new(error),
        };
        if batch.iter().any(|step| makes_filter(step)) {
            self.cut_off().await;
        }
        let failure =
            |step: &&Step| StepFailure { step: (*step).clone(), error: ApplyError::Nftables(error.clone()) };
        batch.iter().map(failure).collect()
    }

    /// Sets every guest's device down: what should guard it is not there and cannot be made. It is up
    /// again with the round that makes it.
    async fn cut_off(&self) {
        let devices = match link::list(&self.netlink).await {
            Ok(devices) => devices,
            Err(error) => return tracing::error!(%error, "cannot list the devices of guests to cut them off"),
        };
        for device in devices.values().filter(|device| device.name.starts_with(DEVICE_PREFIX)) {
            tracing::error!(device = device.name, "there is no guard, and none can be made: set down");
            self.watch.touch(Touched::Link(device.name.clone()));
            if let Err(error) = link::set_down(&self.netlink, device).await {
                tracing::error!(device = device.name, %error, "cannot set it down");
            }
        }
    }

    async fn apply_step(&self, step: &Step) -> Result<(), ApplyError> {
        self.touch(step);
        let (netlink, files) = (&self.netlink, &self.files);
        match step {
            Step::DeletePort { link } | Step::DeleteBridge { link } | Step::DeleteVlan { link } => {
                link::delete(netlink, link).await
            }
            Step::DeleteStation { bridge, mac } => station::let_go(netlink, bridge, *mac).await,
            Step::DeleteDhcpHost { network, mac } => files.delete_dhcp_host(network, &mac.to_string()),
            Step::DeleteDhcpHost6 { network, address } => {
                files.delete_dhcp_host(network, &address.to_string())
            }
            Step::DeleteDnsName { network, name } => files.delete_dns_name(network, name),
            Step::DeleteDnsRecord { network, name } => files.delete_dns_name(network, &record_file(name)),
            Step::EndFlows { flows } | Step::EndLateFlows { flows } => {
                let failed = |source| ApplyError::Flows { flows: flows.clone(), source: Arc::new(source) };
                end_flows(vec![flows.clone()]).await.map_err(failed)
            }
            Step::EndStrayFlows { .. } => {
                end_strays(&[step]).await.map_err(|source| strays_failed(step, source))
            }
            Step::ReloadDhcp { network } => dnsmasq::reload(files, network),
            Step::StopDnsmasq { network } => self.stop_dnsmasq(network).await,
            Step::ForgetLeases { network } => files.forget_leases(network),
            Step::SetSysctl { name, value } => sysctl::write(name, value),
            Step::CreateBridge { link, mac, mtu } => bridge::create(netlink, link, *mac, *mtu).await,
            Step::SetLink { link, changes } => link::change(netlink, link, changes).await,
            Step::Enslave { link, bridge } | Step::SwitchUplink { link, bridge } => {
                files.list_uplink(link)?;
                link::enslave(netlink, link, bridge).await
            }
            Step::ReleaseUplink { link } => {
                link::release(netlink, link).await?;
                files.unlist_uplink(link)
            }
            Step::CopyAddress { address, from, to } | Step::ReturnAddress { address, from, to } => {
                address::copy(netlink, *address, from, to).await
            }
            Step::MoveRoute { route, source, protocol, from, to }
            | Step::ReturnRoute { route, source, protocol, from, to } => {
                let step = route::Move { route, source: *source, protocol: *protocol, from, to };
                route::shift(netlink, step).await
            }
            Step::DropAddress { address, from } | Step::DropReturned { address, from } => {
                address::delete(netlink, from, *address, Owner::Foreign).await
            }
            Step::AddAddress { link, address } => self.add_address(link, *address).await,
            Step::DeleteAddress { link, address } => {
                address::delete(netlink, link, *address, Owner::Ours).await
            }
            Step::WriteDhcpHost { network, mac, address, hostname } => {
                self.make_folders(network)?;
                files.write_dhcp_host(network, *mac, *address, hostname)
            }
            Step::WriteDhcpHost6 { network, address, mac, hostname } => {
                self.make_folders(network)?;
                files.write_dhcp_host6(network, *address, *mac, hostname)
            }
            Step::WriteDnsName { network, name, addresses } => {
                self.make_folders(network)?;
                files.write_dns_name(network, (name, name), addresses)
            }
            Step::WriteDnsRecord { network, name, addresses } => {
                self.make_folders(network)?;
                files.write_dns_name(network, (&record_file(name), name), addresses)
            }
            Step::StartDnsmasq { network, dnsmasq } => self.start_dnsmasq(network, dnsmasq).await,
            Step::ReleaseLease { network, bridge, address, mac } => {
                let lease = Lease4 { network, bridge, address: *address, mac: *mac };
                release::release4(files, lease).await
            }
            Step::ReleaseLease6 { network, bridge, address, client, iaid } => {
                let lease = Lease6 { network, bridge, address: *address, client, iaid: *iaid };
                release::release6(files, lease).await
            }
            Step::PutMetadata { address, instance, project } => {
                self.metadata.put(*address, Identity { instance: *instance, project: *project });
                Ok(())
            }
            Step::DeleteMetadata { address } => {
                self.metadata.delete(*address);
                Ok(())
            }
            Step::StartMetadataProxy { port, service } => {
                let failed = |source| ApplyError::MetadataProxy { port: *port, source };
                self.metadata.start(*port, service).await.map_err(failed)
            }
            Step::StopMetadataProxy { port } => {
                self.metadata.stop(*port).await;
                Ok(())
            }
            Step::CreateVlan { link, vlan } => vlan::create(netlink, link, vlan).await,
            Step::CreatePort { link, port } => {
                link::create_port(netlink, link, port, |named| vpn::netns_path(files, named)).await
            }
            Step::CreateVpnNetns { .. }
            | Step::DeleteVpnNetns { .. }
            | Step::PutVpnUser { .. }
            | Step::DeleteVpnUser { .. }
            | Step::StartVpn { .. }
            | Step::StopVpn { .. } => self.apply_vpn(step).await,
            Step::SetStation { bridge, mac, port, addresses } => {
                let index = station::hold(netlink, station::Place { bridge, mac: *mac, port }).await?;
                self.announce(bridge, index, *mac, (Role::Guest, addresses))
            }
            Step::FilterBridge { bridge } => bridge::filter(netlink, bridge).await,
            Step::PutRuleset { .. }
            | Step::PutSet { .. }
            | Step::PutChain { .. }
            | Step::AddElement { .. }
            | Step::ReplaceElement { .. }
            | Step::TakeElement { .. }
            | Step::DeleteChain { .. }
            | Step::DeleteSet { .. }
            | Step::JudgeAnew
            | Step::ForgetClaim { .. }
            | Step::DeleteElement { .. }
            | Step::DeleteRuleset { .. } => match self.transact(&[step]).await.pop() {
                Some(failure) => Err(failure.error),
                None => Ok(()),
            },
        }
    }

    async fn add_address(&self, link: &LinkName, address: IpNet) -> Result<(), ApplyError> {
        address::add(&self.netlink, link, address).await?;
        let device = link::existing(&self.netlink, link).await?;
        let Some(mac) = device.mac else { return Ok(()) };
        let times = if device.owner() == Owner::Ours { 1 } else { FLOATING_ANNOUNCED };
        for _ in 0..times {
            self.announce(link, device.index, mac, (Role::Router, &[address.addr()].into()))?;
        }
        Ok(())
    }

    fn announce(
        &self,
        device: &LinkName,
        index: u32,
        mac: Mac,
        (role, addresses): (Role, &BTreeSet<IpAddr>),
    ) -> Result<(), ApplyError> {
        let failed = |source| ApplyError::Announce { bridge: device.clone(), mac, source };
        self.announcer.announce(index, mac, role, addresses).map_err(failed)
    }

    /// The network's folders, listened to from before the first file is in them.
    fn make_folders(&self, network: &Name) -> Result<(), ApplyError> {
        self.files.create_network(network)?;
        self.watch.add_network(network);
        Ok(())
    }

    async fn stop_dnsmasq(&self, network: &Name) -> Result<(), ApplyError> {
        self.watch.remove_process(&Key::Dnsmasq(network.clone()));
        dnsmasq::stop(&self.files, network).await
    }

    async fn start_dnsmasq(&self, network: &Name, wanted: &Dnsmasq) -> Result<(), ApplyError> {
        let bridge = link::existing(&self.netlink, &wanted.bridge).await?;
        let key = Key::Dnsmasq(network.clone());
        self.watch.remove_process(&key);
        let pid = dnsmasq::start(&self.files, network, wanted, bridge.index).await?;
        self.watch.add_network(network);
        self.watch.add_process(&key, pid);
        Ok(())
    }

    /// Tells the watch what is about to change, so that it does not take it for somebody else's.
    fn touch(&self, step: &Step) {
        let files = &self.files;
        let touched = match step {
            Step::DeletePort { link } | Step::DeleteBridge { link } | Step::DeleteVlan { link } => {
                vec![Touched::Link(link.to_string()), Touched::LinkGone(link.to_string())]
            }
            Step::CreateVlan { link, vlan } => {
                let parent = match &vlan.kind {
                    LinkKind::Vlan { parent, .. } => Some(parent),
                    _ => None,
                };
                parent.into_iter().chain([link]).map(|link| Touched::Link(link.to_string())).collect()
            }
            Step::DeleteDhcpHost { network, mac } => {
                vec![Touched::FileGone(files.dhcp_hosts_dir(network).join(mac.to_string()))]
            }
            Step::DeleteDhcpHost6 { network, address } => {
                vec![Touched::FileGone(files.dhcp_hosts_dir(network).join(address.to_string()))]
            }
            Step::DeleteDnsName { network, name } => {
                vec![Touched::FileGone(files.dns_names_dir(network).join(name))]
            }
            Step::WriteDhcpHost { network, mac, .. } => {
                vec![Touched::File(files.dhcp_hosts_dir(network).join(mac.to_string()))]
            }
            Step::WriteDhcpHost6 { network, address, .. } => {
                vec![Touched::File(files.dhcp_hosts_dir(network).join(address.to_string()))]
            }
            Step::DeleteDnsRecord { network, name } => {
                vec![Touched::FileGone(files.dns_names_dir(network).join(record_file(name)))]
            }
            Step::WriteDnsName { network, name, .. } => {
                vec![Touched::File(files.dns_names_dir(network).join(name))]
            }
            Step::WriteDnsRecord { network, name, .. } => {
                vec![Touched::File(files.dns_names_dir(network).join(record_file(name)))]
            }
            Step::ForgetLeases { network } => {
                let folders = [files.dhcp_hosts_dir(network), files.dns_names_dir(network)];
                folders.into_iter().map(Touched::FileGone).collect()
            }
            _ => match step.key() {
                Key::Link(link)
                | Key::BridgeFilter(link)
                | Key::Uplink(link)
                | Key::Address(link, _)
                | Key::Route(link, _) => {
                    vec![Touched::Link(link.to_string())]
                }
                Key::Sysctl(_) => vec![Touched::Settings],
                _ => Vec::new(),
            },
        };
        touched.into_iter().for_each(|touched| self.watch.touch(touched));
    }
}

/// The kernel's table of flows is walked for it, for many at once no more often than for one.
async fn end_flows(all: Vec<Flows>) -> io::Result<()> {
    let ended = tokio::task::spawn_blocking(move || conntrack::end(&all)).await;
    ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

async fn end_strays(steps: &[&Step]) -> io::Result<()> {
    let strays = |step: &&Step| match step {
        Step::EndStrayFlows { floating, port, ways } => {
            Some(conntrack::Strays { floating: *floating, port: *port, ways: ways.clone() })
        }
        _ => None,
    };
    let all: Vec<conntrack::Strays> = steps.iter().filter_map(strays).collect();
    let ended = tokio::task::spawn_blocking(move || conntrack::end_strays(&all)).await;
    ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

fn strays_failed(step: &Step, source: io::Error) -> ApplyError {
    ApplyError::Strays { step: step.to_string(), source }
}

fn find_program(program: &'static str, package: &'static str) -> Result<(), OpenError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if found { Ok(()) } else { Err(OpenError::ProgramMissing { program, package }) }
}

/// Which steps are done together with their neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// As one nftables transaction.
    Transaction,
    /// By one request to the kernel, as far as that can be done.
    Deletions,
    /// By one walk through the kernel's table of flows.
    Flows,
    Strays,
    /// At the same time, because each waits for a process.
    Starts,
    Stops,
    Releases,
    /// Alone.
    Single,
}

/// Whether the step makes a table that keeps guests from what they must not do.
fn makes_filter(step: &Step) -> bool {
    matches!(step, Step::PutRuleset { table: Table::Guard | Table::Groups, .. })
}

fn batch(step: &Step) -> Batch {
    match step {
        Step::PutRuleset { .. }
        | Step::PutSet { .. }
        | Step::PutChain { .. }
        | Step::AddElement { .. }
        | Step::ReplaceElement { .. }
        | Step::TakeElement { .. }
        | Step::DeleteChain { .. }
        | Step::DeleteSet { .. }
        | Step::JudgeAnew
        | Step::ForgetClaim { .. }
        | Step::DeleteElement { .. }
        | Step::DeleteRuleset { .. } => Batch::Transaction,
        Step::DeletePort { .. } => Batch::Deletions,
        Step::EndFlows { .. } | Step::EndLateFlows { .. } => Batch::Flows,
        Step::EndStrayFlows { .. } => Batch::Strays,
        Step::StartDnsmasq { .. } => Batch::Starts,
        Step::StopDnsmasq { .. } => Batch::Stops,
        Step::ReleaseLease { .. } | Step::ReleaseLease6 { .. } => Batch::Releases,
        _ => Batch::Single,
    }
}

/// What must not be gone on with after a step failed: nothing at all without the guard and the filter, and no
/// moving of addresses between devices that are not where they should be, which would cut the
/// host off.
#[derive(Debug, Default)]
struct Broken {
    everything: bool,
    links: BTreeSet<LinkName>,
}

impl Broken {
    fn note(&mut self, failure: &StepFailure) {
        let step = &failure.step;
        let is_filter = batch(step) == Batch::Transaction || matches!(step, Step::FilterBridge { .. });
        // A chain that was left as it was is no hole.
        self.everything |= is_filter && !matches!(failure.error, ApplyError::Chain(_));
        self.links.extend(moves_between(step).into_iter().cloned());
    }

    fn blocks(&self, step: &Step) -> bool {
        self.everything || moves_between(step).into_iter().any(|link| self.links.contains(link))
    }
}

/// The devices between which addresses move by this step and its neighbours.
fn moves_between(step: &Step) -> Vec<&LinkName> {
    match step {
        Step::Enslave { link, bridge } | Step::SwitchUplink { link, bridge } => vec![link, bridge],
        Step::ReleaseUplink { link } => vec![link],
        Step::CopyAddress { from, to, .. }
        | Step::ReturnAddress { from, to, .. }
        | Step::MoveRoute { from, to, .. }
        | Step::ReturnRoute { from, to, .. } => vec![from, to],
        Step::DropAddress { from, .. } | Step::DropReturned { from, .. } => vec![from],
        _ => Vec::new(),
    }
}

impl Host for LinuxHost {
    async fn observe(&self, spec: &HostSpec) -> Result<HostState, ObserveError> {
        self.observe_all(spec).await
    }

    async fn observe_keys(&self, keys: &BTreeSet<Key>) -> Result<HostState, ObserveError> {
        self.observe_some(keys).await
    }

    async fn apply(&self, steps: &BTreeSet<Step>) -> Vec<StepFailure> {
        let steps: Vec<&Step> = steps.iter().collect();
        let together = |a: &&Step, b: &&Step| batch(a) == batch(b) && batch(a) != Batch::Single;
        let mut failures = Vec::new();
        let mut broken = Broken::default();
        for chunk in steps.chunk_by(together) {
            let (blocked, possible): (Vec<&Step>, Vec<&Step>) =
                chunk.iter().partition(|step| broken.blocks(step));
            let not_tried = |step: &Step| StepFailure { step: step.clone(), error: ApplyError::NotTried };
            failures.extend(blocked.into_iter().map(not_tried));
            let failed = match possible.first().map(|step| batch(step)) {
                Some(Batch::Transaction) => self.transact(&possible).await,
                Some(Batch::Deletions) if possible.len() > 1 => self.delete_ports(&possible).await,
                Some(Batch::Flows) if possible.len() > 1 => self.end_all_flows(&possible).await,
                Some(Batch::Strays) if possible.len() > 1 => self.end_all_strays(&possible).await,
                _ => self.apply_batch(&possible).await,
            };
            failed.iter().for_each(|failure| broken.note(failure));
            failures.extend(failed);
        }
        self.watch.settle();
        failures
    }

    async fn changed(&self) -> Change {
        self.watch.changed().await
    }

    async fn is_claimed(&self) -> Result<bool, ObserveError> {
        let claims = self.nftables.has_any(&[Set::Yielded, Set::Yielded6]).await;
        claims.map_err(|source| ObserveError::Nftables { what: "what other hosts claim".into(), source })
    }

    async fn rule_counters(&self) -> Result<BTreeMap<u32, RuleCounter>, ObserveError> {
        let counters = self.nftables.counters().await;
        counters.map_err(|source| ObserveError::Nftables { what: "what rules have counted".into(), source })
    }

    async fn vpn_connections(&self) -> BTreeMap<Name, BTreeMap<Name, VpnConnection>> {
        self.connections().await
    }

    fn devices(&self) -> Option<BTreeSet<LinkName>> {
        // Why they cannot be listed is said by the next observation.
        let listed = nix::net::if_::if_nameindex().ok()?;
        Some(listed.iter().filter_map(|device| device.name().to_str().ok()?.parse().ok()).collect())
    }

    fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let listed = nix::ifaddrs::getifaddrs().ok()?;
        let address = |held: nix::ifaddrs::InterfaceAddress| {
            let address = held.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
        };
        Some(listed.filter_map(address).collect())
    }

    fn missing_features(&self) -> BTreeSet<Feature> {
        self.missing_features.clone()
    }
}
