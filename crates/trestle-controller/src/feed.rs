//! What each host must have, kept current by following the change log.
//!
//! A replica of the World is loaded at the start. After every commit the change log is read on,
//! what changed is loaded again, and the scopes it bears on are compiled before and after: the
//! difference goes into a ring of recent changes for each host it is for. An agent that holds a
//! generation the ring covers is told the changes since; any other is told everything.
//!
//! The log and what it names are read in one snapshot and get the snapshot's revision, so that a
//! generation never stands for a state that is older or newer than it.

mod loaded;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use trestle_core::compile::{Entity, Scope, affected, compile, compile_scope};
use trestle_core::spec::{Key, Object, SpecUpdate};
use trestle_core::types::HostId;
use trestle_core::world::{Options, World};

use crate::store::change::{self, Batch};
use crate::store::{Backend, Store, StoreError};
use loaded::Loaded;
use told::{Delta, HostFeed};

/// An agent that was not heard of for this long is not connected. It polls or reports more often.
pub(crate) const SILENCE: SignedDuration = SignedDuration::from_secs(40);

/// How long the follower waits after the database failed it.
const RETRY: Duration = Duration::from_secs(1);

/// How long the follower lets changes gather when they come faster than it takes them in.
const GATHER: Duration = Duration::from_millis(2);

/// How often the change log is looked at for what other controllers did.
const POLL: Duration = Duration::from_secs(1);

/// The World's replica and what each host was told.
pub(crate) struct Feed {
    store: Arc<Store>,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

struct State {
    world: World,
    last_change: i64,
    hosts: HashMap<HostId, HostFeed>,
}

impl Feed {
    /// Loads everything there is.
    pub(crate) async fn load(store: Arc<Store>, options: Options) -> Result<Self, StoreError> {
        let mut snapshot = store.snapshot().await?;
        let (last_change, revision) = change::position(&mut snapshot).await?;
        let mut world = World::new(options);
        loaded::all(&mut snapshot).await?.into_iter().for_each(|one| one.put_into(&mut world));
        drop(snapshot);
        let hosts = world.hosts().map(|host| (host.id, HostFeed::new(revision))).collect();
        let state = Mutex::new(State { world, last_change, hosts });
        Ok(Self { store, state, revision: watch::Sender::new(revision) })
    }

    /// Follows the change log for as long as it is polled.
    pub(crate) async fn follow(&self) {
        let changed = self.store.changed();
        loop {
            match self.store.backend() {
                Backend::Sqlite => changed.notified().await,
                // Other controllers change it too.
                Backend::Postgres => drop(tokio::time::timeout(POLL, changed.notified()).await),
            }
            let taken_in = self.catch_up_at_last().await;
            if taken_in > 1 {
                // Writers are faster than this: gather, instead of taking their processor time.
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Takes in what was changed, however long the database is away; gives how many changes.
    async fn catch_up_at_last(&self) -> u64 {
        loop {
            match self.catch_up().await {
                Ok(taken_in) => return taken_in,
                Err(error) => warn(&error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The latest revision that was taken in.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The change from this generation, or everything without one; nothing if that is the host's.
    pub(crate) fn update(&self, host: HostId, since: Option<u64>) -> Option<SpecUpdate> {
        let state = self.lock();
        let feed = state.hosts.get(&host)?;
        let generation = *feed.generation.borrow();
        if since == Some(generation) {
            return None;
        }
        match since.filter(|since| (feed.ring_from..generation).contains(since)) {
            Some(since) => Some(feed.since(since, generation)),
            None => {
                let put = compile(&state.world, host);
                Some(SpecUpdate { base: None, generation, put, gone: BTreeSet::new() })
            }
        }
    }

    /// The hosts that this thing bears on, as far as it is known here.
    pub(crate) fn hosts_affected(&self, entity: Entity) -> BTreeSet<HostId> {
        affected(&self.lock().world, entity).into_iter().map(|(host, _)| host).collect()
    }

    /// Whether the host is asked for something since this revision; it may be while that is not taken in.
    pub(crate) fn is_asked(&self, host: HostId, revision: u64) -> bool {
        *self.revision.borrow() < revision || *self.generation(host).borrow() >= revision
    }

    /// The generation that the host has been asked for, and its changes.
    pub(crate) fn generation(&self, host: HostId) -> watch::Receiver<u64> {
        self.lock().host(host).generation.subscribe()
    }

    /// What the host says it has worked through.
    pub(crate) fn applied(&self, host: HostId) -> watch::Receiver<u64> {
        self.lock().host(host).applied.subscribe()
    }

    /// Notes what the host says it has worked through.
    pub(crate) fn heard(&self, host: HostId, now: Timestamp, generation_applied: u64) {
        let mut state = self.lock();
        let feed = state.host(host);
        feed.last_heard = Some(now);
        feed.applied.send_replace(generation_applied);
    }

    /// Notes that the host's agent is waiting for a change, until the guard is dropped.
    pub(crate) fn polling(self: &Arc<Self>, host: HostId, clock: Arc<dyn crate::app::Clock>) -> Polling {
        let mut state = self.lock();
        let feed = state.host(host);
        feed.polls += 1;
        feed.last_heard = Some(clock.now());
        drop(state);
        Polling { feed: Arc::clone(self), host, clock }
    }

    /// When the host's agent was last heard of here; `now` while it waits for a change.
    pub(crate) fn last_heard(&self, host: HostId, now: Timestamp) -> Option<Timestamp> {
        let state = self.lock();
        let feed = state.hosts.get(&host)?;
        if feed.polls > 0 { Some(now) } else { feed.last_heard }
    }

    /// Takes in what was changed since the last time; gives how many revisions.
    async fn catch_up(&self) -> Result<u64, StoreError> {
        let last = self.lock().last_change;
        let mut snapshot = self.store.snapshot().await?;
        let batch = change::after(&mut snapshot, last).await?;
        if batch.last == last {
            return Ok(0);
        }
        let loaded = loaded::changed(&mut snapshot, &batch, last).await?;
        drop(snapshot);
        // A host must not be told of what a power cut may take back.
        self.store.flush(batch.revision).await?;
        self.lock().take_in(&batch, &loaded);
        let before = self.revision.send_replace(batch.revision);
        Ok(batch.revision.saturating_sub(before))
    }

    /// Waits until this revision was taken in, or for so long that it may not be for a while.
    pub(crate) async fn wait_for(&self, revision: u64) {
        let mut taken_in = self.revision();
        let _ = tokio::time::timeout(2 * POLL, taken_in.wait_for(|taken_in| *taken_in >= revision)).await;
    }

    /// Asks the World as it is known here.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&World) -> T) -> T {
        question(&self.lock().world)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change; a poisoned lock still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that an agent is waiting for as long as it lives.
pub(crate) struct Polling {
    feed: Arc<Feed>,
    host: HostId,
    clock: Arc<dyn crate::app::Clock>,
}

impl Drop for Polling {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut state = self.feed.lock();
        if let Some(feed) = state.hosts.get_mut(&self.host) {
            feed.polls = feed.polls.saturating_sub(1);
            feed.last_heard = Some(now);
        }
    }
}

impl State {
    fn host(&mut self, id: HostId) -> &mut HostFeed {
        self.hosts.entry(id).or_insert_with(|| HostFeed::new(0))
    }

    fn take_in(&mut self, batch: &Batch, loaded: &[Loaded]) {
        self.begin_new_hosts(batch);
        let mut deltas: BTreeMap<HostId, Delta> = BTreeMap::new();
        // A host that a change names has its generation even if there and back is no difference.
        for host in &batch.hosts {
            deltas.entry(*host).or_default();
        }
        self.put(loaded, &mut deltas);
        for (host, delta) in deltas {
            if self.world.host(host).is_some() {
                self.host(host).push(Delta { generation: batch.revision, ..delta });
            } else {
                self.hosts.remove(&host);
            }
        }
        self.last_change = batch.last;
    }

    /// An agent may hold a generation of another host that had the name: it is told everything.
    fn begin_new_hosts(&mut self, batch: &Batch) {
        for entity in &batch.entities {
            match *entity {
                Entity::Host(host) if self.world.host(host).is_none() => {
                    self.host(host).ring_from = batch.revision;
                }
                _ => {}
            }
        }
    }

    /// Puts all of it in at once. A key may go from one thing to another, as a floating IP does: seen
    /// one after the other, whether it stays would be a matter of their order.
    fn put(&mut self, loaded: &[Loaded], deltas: &mut BTreeMap<HostId, Delta>) {
        let old: Vec<Loaded> = loaded.iter().map(|one| Loaded::current(&self.world, one.entity())).collect();
        let mut scopes = BTreeSet::new();
        // What a thing bears on may be a matter of what else is there, so it is asked at every step.
        for one in loaded {
            scopes.extend(affected(&self.world, one.entity()));
            one.clone().put_into(&mut self.world);
            scopes.extend(affected(&self.world, one.entity()));
        }
        // Back once more: what it bears on only now had something before, too.
        old.into_iter().for_each(|one| one.put_into(&mut self.world));
        let before = compile_scopes(&self.world, &scopes);
        loaded.iter().for_each(|one| one.clone().put_into(&mut self.world));
        let after = compile_scopes(&self.world, &scopes);
        for (host, objects) in after {
            let empty = BTreeMap::new();
            let delta = deltas.entry(host).or_default();
            delta.join_difference(before.get(&host).unwrap_or(&empty), objects);
        }
        for one in loaded {
            if let Entity::Host(host) = one.entity() {
                deltas.entry(host).or_default();
            }
        }
    }
}

fn warn(error: &StoreError) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, "cannot follow the change log, will try again");
}

/// What these scopes contribute, by host.
fn compile_scopes(
    world: &World,
    scopes: &BTreeSet<(HostId, Scope)>,
) -> BTreeMap<HostId, BTreeMap<Key, Object>> {
    let mut hosts: BTreeMap<HostId, BTreeMap<Key, Object>> = BTreeMap::new();
    for (host, scope) in scopes {
        hosts.entry(*host).or_default().extend(compile_scope(world, *host, *scope));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use trestle_api::{NewAddressGroup, NewHost, NewNetwork, NewProject, NewVpn, NewVpnUser};
    use trestle_core::types::{InstanceId, InterfaceId, Mtu, NetworkId, ProjectId};
    use trestle_core::world::{
        Attachment, DnsRecord, FloatingIp, Gateways, Host, Interface, Ipv6Mode, Network, NetworkType, Plug,
        Remote, RoutingSourceIp, Subnet, Target,
    };
    use uuid::Uuid;

    use super::*;
    use crate::app::{App, Caller};
    use crate::config::ControllerConfig;
    use crate::store::sqlite_url;

    const HOST: HostId = HostId(Uuid::from_u128(1));
    const NETWORK: NetworkId = NetworkId(Uuid::from_u128(2));
    const OTHER: HostId = HostId(Uuid::from_u128(9));

    fn host() -> Host {
        Host {
            id: HOST,
            name: "host1".parse().unwrap(),
            flat_interface: None,
            vlan_interface: None,
            public_interface: Some("eth0".parse().unwrap()),
            routing_source_ip: RoutingSourceIp::OfDevice,
        }
    }

    fn network() -> Network {
        let cidr = "10.0.0.0/24".parse().unwrap();
        Network {
            id: NETWORK,
            name: "public".parse().unwrap(),
            network_type: NetworkType::FlatDhcp,
            project: None,
            ipv4: Some(Subnet { cidr, gateway: Some("10.0.0.1".parse().unwrap()) }),
            ipv6: None,
            ipv6_mode: Ipv6Mode::Dhcpv6,
            gateways: Gateways::Shared,
            vlan: None,
            bridge: "br100".parse().unwrap(),
            bridge_interface: None,
            bridge_mac: "fe:16:3e:00:00:01".parse().unwrap(),
            dns: Vec::new(),
            domain: "trestle.internal".parse().unwrap(),
            mtu: Mtu::ETHERNET,
            dhcp_lease_time: 86_400,
            dhcp_options: Vec::new(),
            ether_types: Default::default(),
        }
    }

    fn fixed(number: u8) -> IpAddr {
        format!("10.0.0.{number}").parse().unwrap()
    }

    /// An interface with the address of this number, plugged in or not.
    fn interface(number: u8, host: Option<HostId>) -> Interface {
        let id = InterfaceId(Uuid::from_u128(number.into()));
        Interface {
            id,
            instance: InstanceId(id.0),
            project: ProjectId(Uuid::from_u128(3)),
            network: NETWORK,
            mac: format!("fa:16:3e:00:00:{number:02x}").parse().unwrap(),
            device: format!("tr-{number}").parse().unwrap(),
            hostname: format!("vm{number}").parse().unwrap(),
            addresses: vec![fixed(number)],
            attachment: host.map(|host| Attachment { host, plug: Plug::Tap { owner: None } }),
            security: Some(Default::default()),
            moving_to: None,
        }
    }

    /// The floating IP of this number, led to the interface of that one.
    fn led(number: u8, to: u8) -> FloatingIp {
        let target = Target { interface: interface(to, None).id, fixed: fixed(to) };
        let address = format!("203.0.113.{number}").parse().unwrap();
        FloatingIp { address, device: None, target: Some(target), forwards: Vec::new() }
    }

    /// What the host is told of these, which come in one batch.
    fn told(world: &World, loaded: &[Loaded]) -> Delta {
        let mut state = State { world: world.clone(), last_change: 0, hosts: HashMap::new() };
        let entities = loaded.iter().map(Loaded::entity).collect();
        state.take_in(&Batch { last: 1, revision: 1, entities, hosts: BTreeSet::new() }, loaded);
        let mut after = world.clone();
        loaded.iter().for_each(|one| one.clone().put_into(&mut after));
        let delta = state.hosts.get(&HOST).and_then(|feed| feed.ring.back()).cloned().unwrap_or_default();
        let mut objects = compile(world, HOST);
        objects.retain(|key, _| !delta.gone.contains(key));
        objects.extend(delta.put.clone());
        let wanted = compile(&after, HOST);
        let keys = objects.keys().chain(wanted.keys());
        let wrong: Vec<&Key> = keys.filter(|key| objects.get(key) != wanted.get(key)).collect();
        assert!(wrong.is_empty(), "it does not lead to what is to be: {wrong:?}");
        delta
    }

    fn world(interfaces: &[Interface]) -> World {
        let mut world = World::new(Options::default());
        world.put_host(host());
        world.put_network(network());
        interfaces.iter().for_each(|interface| world.put_interface(interface.clone()));
        world
    }

    #[test]
    fn what_goes_from_one_thing_to_another_in_a_batch_is_never_gone_whatever_the_order() {
        let mut world = world(&[interface(2, Some(HOST)), interface(3, Some(HOST))]);
        world.put_floating_ip(led(1, 2));
        world.put_floating_ip(led(2, 3));
        let mut swapped = vec![Loaded::FloatingIp(led(1, 3)), Loaded::FloatingIp(led(2, 2))];
        for _ in 0..2 {
            let delta = told(&world, &swapped);
            assert_eq!(delta.gone, BTreeSet::new());
            assert!(!delta.put.is_empty());
            swapped.reverse();
        }
        let mut left = vec![
            Loaded::Gone(Entity::Interface(interface(2, None).id)),
            Loaded::FloatingIp(led(1, 3)),
            Loaded::Gone(Entity::FloatingIp(led(2, 3).address)),
        ];
        for _ in 0..2 {
            let gone: Vec<String> = told(&world, &left).gone.iter().map(Key::to_string).collect();
            assert!(gone.contains(&"address/eth0/203.0.113.2/32".to_owned()), "{gone:?}");
            assert!(!gone.iter().any(|key| key.contains("203.0.113.1")), "{gone:?}");
            left.reverse();
        }
    }

    #[test]
    fn what_comes_together_is_told_as_if_it_came_one_after_the_other() {
        let mut world = world(&[interface(2, None), interface(3, None), interface(4, Some(OTHER))]);
        world.put_host(Host { id: OTHER, name: "host2".parse().unwrap(), ..host() });
        let name = DnsRecord {
            id: trestle_core::types::DnsRecordId(Uuid::from_u128(5)),
            name: "www.example.org".parse().unwrap(),
            project: None,
            addresses: [fixed(4)].into(),
        };
        world.put_dns_record(name);
        // Each by itself is the first of its project and network there, together none is.
        let delta = told(&world, &[2, 3].map(|number| Loaded::Interface(interface(number, Some(HOST)))));
        let told: Vec<String> = delta.put.keys().map(Key::to_string).collect();
        assert!(told.contains(&"dns-name/public/vm4.trestle.internal".to_owned()), "{told:?}");
        assert!(told.contains(&"dns-record/public/www.example.org".to_owned()), "{told:?}");
    }

    #[tokio::test]
    async fn groups_are_followed_as_they_are_loaded() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = ControllerConfig::in_state_dir(folder.path());
        let app = App::open(&config).await.unwrap();
        let store = Store::open(&sqlite_url(&config.default_database_path())).await.unwrap();
        let feed = Feed::load(Arc::new(store), Options::default()).await.unwrap();
        let admin = Caller::Admin;
        app.create_project(&admin, NewProject { name: "p".to_owned() }).await.unwrap();
        let dns = NewAddressGroup {
            name: "dns".to_owned(),
            project: Some("p".to_owned()),
            ranges: vec!["9.9.9.8/31".to_owned()],
        };
        let dns = app.create_address_group(&admin, dns).await.unwrap();
        let rule = "egress udp 53 to address-group dns".parse().unwrap();
        app.add_security_group_rule(&admin, "default", None, rule).await.unwrap();
        feed.catch_up().await.unwrap();
        let group = app.security_group(&admin, "default", None).await.unwrap();
        let world = feed.lock().world.clone();
        let followed = world.security_group(group.id).unwrap();
        let remotes: Vec<Remote> = followed.rules.iter().map(|rule| rule.remote).collect();
        assert_eq!(remotes, [Remote::Group(group.id), Remote::Any, Remote::AddressGroup(dns.id)]);
        assert_eq!(world.address_group(dns.id).unwrap().ranges, ["9.9.9.8/31".parse().unwrap()].into());
        let again = Feed::load(Arc::clone(&feed.store), Options::default()).await.unwrap();
        assert_eq!(again.lock().world, world);
        app.delete_project(&admin, "p").await.unwrap();
        feed.catch_up().await.unwrap();
        assert!(feed.lock().world.security_group(group.id).is_none());
        assert!(feed.lock().world.address_group(dns.id).is_none());
    }
    #[tokio::test]
    async fn vpns_are_followed_as_they_are_loaded() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = ControllerConfig::in_state_dir(folder.path());
        let app = App::open(&config).await.unwrap();
        let store = Store::open(&sqlite_url(&config.default_database_path())).await.unwrap();
        let feed = Feed::load(Arc::new(store), Options::default()).await.unwrap();
        let admin = Caller::Admin;
        let project = app.create_project(&admin, NewProject { name: "p".to_owned() }).await.unwrap().id;
        let network = NewNetwork {
            name: "n".to_owned(),
            network_type: Some("flat_dhcp".to_owned()),
            cidr: Some("10.0.0.0/24".to_owned()),
            bridge: Some("br1".to_owned()),
            project: Some("p".to_owned()),
            ..NewNetwork::default()
        };
        app.create_networks(&admin, network).await.unwrap();
        app.create_host(&admin, NewHost { name: "h".to_owned(), ..NewHost::default() }).await.unwrap();
        let new = NewVpn {
            project: Some("p".to_owned()),
            kind: Some("wireguard".to_owned()),
            ip: Some("192.0.2.1".to_owned()),
            host: Some("h".to_owned()),
            ..NewVpn::default()
        };
        app.create_vpn(&admin, new).await.unwrap();
        let users = ["alice", "bob"].map(|name| NewVpnUser { name: name.to_owned(), days: None });
        for user in users {
            app.add_vpn_user(&admin, "p", user).await.unwrap();
        }
        app.revoke_vpn_user(&admin, "p", "bob").await.unwrap();
        feed.catch_up().await.unwrap();
        let world = feed.lock().world.clone();
        let vpn = world.vpn(project).cloned().unwrap();
        let interface = world.interface(vpn.interface).unwrap();
        assert_eq!(vpn.users.len(), 1);
        let (credential, alice) = vpn.users.iter().next().unwrap();
        assert!(credential.as_str().starts_with("alice-") && alice.public_key.is_some());
        let addresses: BTreeSet<IpAddr> = [vpn.address, alice.address].into();
        assert_eq!(interface.addresses.iter().copied().collect::<BTreeSet<_>>(), addresses);
        assert_eq!(
            vpn.endpoint.map(|endpoint| (endpoint.ip.to_string(), endpoint.port)),
            Some(("192.0.2.1".to_owned(), 1000))
        );
        let again = Feed::load(Arc::clone(&feed.store), Options::default()).await.unwrap();
        assert_eq!(again.lock().world, world);
        app.delete_vpn(&admin, "p").await.unwrap();
        feed.catch_up().await.unwrap();
        let world = feed.lock().world.clone();
        assert!(world.vpn(project).is_none());
        assert!(world.interface(vpn.interface).is_none());
    }
}
