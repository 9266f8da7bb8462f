//! What agents are told: everything, or exactly what changed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cloud::{Cloud, Database, flat_dhcp};
use trestle_api::agent::SpecQuery;
use trestle_api::spec::{HostSpec, Key, SpecUpdate};
use trestle_api::{
    AddressGroupPatch, DnsRecordRequest, FloatingIpFilter, FloatingIpState, GatewayRequest, Host, HostPatch,
    Instance, InterfacePatch, MovePhase, MoveRequest, NewAddressGroup, NewDnsDomain, NewFloatingIp,
    NewNetwork, NewSecurityGroup, PageQuery,
};
use trestle_controller::app::Caller;

crate::on_both!(
    a_poll_gets_exactly_what_an_attach_brings_and_a_detach_takes,
    changes_in_sequence_lead_to_what_a_new_agent_is_told,
    a_poll_without_a_change_ends_with_nothing,
    after_a_restart_everything_is_told_once_and_nothing_is_lost,
    a_generation_that_is_not_known_is_told_everything,
    a_second_controller_s_changes_are_told_too,
    a_host_is_connected_while_it_polls_and_a_while_after,
);

/// The keys of an update that speak of this device or MAC, or all that do not.
fn keys(update: &SpecUpdate) -> (Vec<String>, Vec<String>) {
    (update.put.keys().map(Key::to_string).collect(), update.gone.iter().map(Key::to_string).collect())
}

async fn a_poll_gets_exactly_what_an_attach_brings_and_a_detach_takes(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let first = cloud.instance(&project, "first", "n").await;
    let second = cloud.instance(&project, "second", "n").await;
    cloud.attach(&first, &host).await;
    cloud.settle().await;
    let held = cloud.whole(&host).await.generation;

    let polling = cloud.poll(&host, Some(held));
    let (update, attached) = tokio::join!(polling, cloud.attach(&second, &host));
    assert_eq!((update.base, update.generation), (Some(held), attached.generation));
    let (device, mac) = (attached.device, attached.mac);
    let mut expected = [
        format!("element/guard_mac/{device} . {mac}"),
        format!("element/guard_ip4/{device} . {mac} . 10.0.0.3"),
        format!("element/guard_hardware/{device} . {:#x}", mac.to_bits()),
        format!("element/heard_by/{device}"),
        "element/groups4/10.0.0.3".to_owned(),
        "element/members4_1/10.0.0.3".to_owned(),
        format!("link/{device}"),
        format!("dhcp-host/n/{mac}"),
        "dns-name/n/second.trestle.internal".to_owned(),
        format!("station/br-n/{mac}"),
    ];
    let sorted = |(mut put, mut gone): (Vec<String>, Vec<String>)| {
        put.sort();
        gone.sort();
        (put, gone)
    };
    expected.sort();
    assert_eq!(sorted(keys(&update)), (expected.to_vec(), Vec::new()));

    let polling = cloud.poll(&host, Some(update.generation));
    let detaching = cloud.app.detach(&Caller::Admin, "second", None, None);
    let told = async {
        let told = polling.await;
        cloud.report(&host, told.generation, []).await;
        told
    };
    let (update, detached) = tokio::join!(told, detaching);
    assert_eq!(update.generation, detached.unwrap().generation);
    assert_eq!(sorted(keys(&update)), (Vec::new(), expected.to_vec()));
}

/// A random number without a crate: any sequence that visits everything does.
struct Walk(u64);

impl Walk {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What the walk must come by.
const KINDS: [&str; 5] =
    ["link/", "address/eth0/203.", "element/floating_to/", "element/forward_to/", "dns-record/"];

async fn changes_in_sequence_lead_to_what_a_new_agent_is_told(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let hosts = [cloud.public_host("h1").await, cloud.public_host("h2").await];
    cloud.pool("ext", "203.0.113.0/29").await;
    for name in [None, Some("p")] {
        let name = (name.map(str::to_owned), name.unwrap_or("all"));
        let domain = NewDnsDomain { name: format!("{}.example", name.1), project: name.0 };
        cloud.app.create_dns_domain(&Caller::Admin, domain).await.unwrap();
    }
    for network in networks_of_each_kind() {
        cloud.make(network).await.unwrap();
    }
    for name in ["web", "db"] {
        let group = NewSecurityGroup { name: name.to_owned(), ..NewSecurityGroup::default() };
        cloud.app.create_security_group(&project, group).await.unwrap();
    }
    let far = NewAddressGroup { name: "far".to_owned(), ..NewAddressGroup::default() };
    cloud.app.create_address_group(&project, far).await.unwrap();
    let agents = [cloud.agent(&hosts[0]).await, cloud.agent(&hosts[1]).await];
    cloud.settle().await;
    let mut held = [cloud.whole(&hosts[0]).await, cloud.whole(&hosts[1]).await];
    let mut instances: Vec<Instance> = Vec::new();
    let mut walk = Walk(7);
    let (mut made, mut joined, mut seen) = (0, 0, BTreeSet::new());
    for _ in 0..300 {
        step(&cloud, &project, &hosts, &mut instances, (&mut walk, &mut made)).await;
        if walk.below(3) > 0 {
            continue;
        }
        cloud.settle().await;
        for (host, held) in hosts.iter().zip(&mut held) {
            let query = SpecQuery { since: Some(held.generation), wait: None };
            if let Some(update) = cloud.app.spec(&Caller::Admin, host.name.as_str(), query).await.unwrap() {
                assert_eq!(update.base, Some(held.generation));
                held.apply(update).unwrap();
                joined += 1;
            }
            assert_eq!(*held, cloud.whole(host).await);
            let keys: Vec<String> = held.objects.keys().map(Key::to_string).collect();
            seen.extend(KINDS.into_iter().filter(|kind| keys.iter().any(|key| key.starts_with(kind))));
        }
        refuse_other_holders(&cloud, &hosts, &held).await;
    }
    assert!(joined > 20, "the walk led somewhere: {joined}");
    drop(agents);
    cloud.settle().await;
    let followed = [cloud.whole(&hosts[0]).await.objects, cloud.whole(&hosts[1]).await.objects];
    cloud.restart().await;
    let loaded = [cloud.whole(&hosts[0]).await.objects, cloud.whole(&hosts[1]).await.objects];
    assert_eq!(followed, loaded, "what is followed is what is kept");
    let unseen: Vec<&str> = KINDS.into_iter().filter(|kind| !seen.contains(kind)).collect();
    assert!(unseen.is_empty(), "the walk led nowhere where a key begins with {unseen:?}");
}

/// A gateway on every host under one address, under one of each host's own, on one host for all; a
/// VLAN; and none.
fn networks_of_each_kind() -> [NewNetwork; 5] {
    let shared = |name: &str, cidr: &str| flat_dhcp(name, cidr, &format!("br-{name}"));
    let typed =
        |network: NewNetwork, text: &str| NewNetwork { network_type: Some(text.to_owned()), ..network };
    let own = NewNetwork { cidr_v6: Some("fd00:2::/64".to_owned()), ..shared("n2", "10.2.0.0/24") };
    let vlan = NewNetwork { bridge_interface: Some("eth3".to_owned()), ..shared("n4", "10.4.0.0/24") };
    let flat = NewNetwork { gateway: Some("none".to_owned()), ..shared("n5", "10.5.0.0/24") };
    [
        shared("n1", "10.1.0.0/24"),
        NewNetwork { share_address: Some(false), ..own },
        NewNetwork { multi_host: Some(false), ..shared("n3", "10.3.0.0/24") },
        NewNetwork { vlan: Some(7), project: Some("p".to_owned()), ..typed(vlan, "vlan") },
        typed(flat, "flat"),
    ]
}

async fn step(
    cloud: &Cloud,
    project: &Caller,
    hosts: &[Host; 2],
    instances: &mut Vec<Instance>,
    (walk, made): (&mut Walk, &mut usize),
) {
    let host = &hosts[walk.below(2)];
    let instance = (!instances.is_empty()).then(|| walk.below(instances.len()));
    match (walk.below(26), instance) {
        (0..=2, _) | (_, None) => {
            *made += 1;
            let network = ["n1", "n2", "n3", "n4", "n5"][walk.below(5)];
            instances.push(cloud.instance(project, &format!("i{made}"), network).await);
        }
        // What cannot be is refused and changes nothing.
        (3..=5, Some(i)) => drop(cloud.try_attach(&instances[i], host, Default::default()).await),
        (6, Some(i)) => drop(cloud.app.detach(project, instances[i].name.as_str(), None, None).await),
        (7, Some(i)) => {
            let instance = instances.swap_remove(i);
            cloud.delete(project, instance.name.as_str()).await;
        }
        (8..=9, Some(i)) => {
            let phases = [MovePhase::Both, MovePhase::Prepare, MovePhase::Switch, MovePhase::Cancel];
            let phase = phases[walk.below(4)];
            let to = matches!(phase, MovePhase::Both | MovePhase::Prepare).then(|| host.name.to_string());
            let request = MoveRequest { host: to, phase, plug: None };
            let name = instances[i].name.as_str();
            drop(cloud.app.move_instance(&Caller::Admin, name, None, request).await);
        }
        (10, Some(_)) => {
            let request = GatewayRequest { host: host.name.to_string() };
            drop(cloud.app.set_gateway(&Caller::Admin, "n3", request).await);
        }
        (11..=16, Some(i)) => lead(cloud, project, instances[i].name.as_str(), walk).await,
        (17..=18, _) => name(cloud, project, walk).await,
        (20..=22, Some(i)) => hold(cloud, &instances[i], walk).await,
        (23..=25, Some(_)) => allow(cloud, project, walk).await,
        (_, Some(_)) => {
            let device = Some(["eth1", "eth2", ""][walk.below(3)].to_owned());
            let patch = match walk.below(3) {
                0 => HostPatch { flat_interface: device, ..HostPatch::default() },
                1 => HostPatch { vlan_interface: device, ..HostPatch::default() },
                _ => HostPatch { public_interface: device, ..HostPatch::default() },
            };
            drop(cloud.app.patch_host(&Caller::Admin, host.name.as_str(), patch).await);
        }
    }
}

/// Fails unless each floating IP is on the one host that the API says, and only there.
async fn refuse_other_holders(cloud: &Cloud, hosts: &[Host; 2], held: &[HostSpec; 2]) {
    let (filter, page) = (FloatingIpFilter::default(), PageQuery::default());
    let listed = cloud.app.list_floating_ips(&Caller::Admin, &filter, &page).await.unwrap().items;
    for floating in listed {
        let has = |key: &Key| matches!(key, Key::Address(_, net) if net.addr() == floating.address);
        let on = hosts.iter().zip(held).filter(|(_, held)| held.objects.keys().any(has));
        let on: Vec<String> = on.map(|(host, _)| host.name.to_string()).collect();
        // One that was prepared before for a host without the device is there by name only.
        let told = floating.host.filter(|_| floating.state != FloatingIpState::Failed);
        assert_eq!(on, told.iter().map(ToString::to_string).collect::<Vec<_>>(), "{}", floating.address);
    }
}

/// Does something with floating IPs.
async fn lead(cloud: &Cloud, project: &Caller, instance: &str, walk: &mut Walk) {
    let address = format!("203.0.113.{}", 1 + walk.below(6));
    match walk.below(8) {
        0..=1 => drop(cloud.app.reserve_floating_ip(project, NewFloatingIp::default()).await),
        2..=3 => drop(cloud.try_associate(&address, instance, true).await),
        4 => drop(cloud.app.disassociate_floating_ip(project, &address).await),
        5 => drop(cloud.forward(&address, [80, 443][walk.below(2)], instance).await),
        6 => drop(cloud.app.unforward_port(project, &address, ("tcp", ["80", "443"][walk.below(2)])).await),
        _ => drop(cloud.app.release_floating_ip(project, &address).await),
    }
}

/// Changes what an instance is held to.
async fn hold(cloud: &Cloud, instance: &Instance, walk: &mut Walk) {
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let patch = match walk.below(6) {
        0 => InterfacePatch { security_groups: texts(&["web", "default"]), ..InterfacePatch::default() },
        1 => InterfacePatch { security_groups: texts(&["db"]), ..InterfacePatch::default() },
        2 => InterfacePatch { security_groups: texts(&["db", "web"]), ..InterfacePatch::default() },
        3 => InterfacePatch { allowed_address_pairs: texts(&["10.9.0.9"]), ..InterfacePatch::default() },
        4 => InterfacePatch { port_security: Some(true), ..InterfacePatch::default() },
        _ => InterfacePatch {
            security_groups: texts(&[]),
            allowed_address_pairs: texts(&[]),
            port_security: Some(false),
        },
    };
    let (id, interface) = (instance.id.to_string(), instance.interfaces[0].id.to_string());
    drop(cloud.app.patch_interface(&Caller::Admin, (&id, None), &interface, patch).await);
}

/// Does something with what groups allow.
async fn allow(cloud: &Cloud, project: &Caller, walk: &mut Walk) {
    let group = ["web", "db", "default"][walk.below(3)];
    match walk.below(6) {
        0 => {
            let ranges = Some(vec![format!("192.0.2.{}", walk.below(4)), "198.51.100.0/24".to_owned()]);
            let patch = AddressGroupPatch { name: None, ranges };
            drop(cloud.app.patch_address_group(project, "far", None, patch).await);
        }
        1..=2 => {
            let rules = cloud.app.security_group(project, group, None).await.unwrap().rules;
            let Some(rule) = rules.first().map(|rule| rule.id.to_string()) else { return };
            cloud.app.delete_security_group_rule(project, group, None, &rule).await.unwrap();
        }
        _ => {
            let texts = [
                "ingress any from group web",
                "ingress tcp 5432 from group db",
                "egress udp 53 to address-group far",
                "ingress ipv6 icmpv6 type 128",
                "egress any",
            ];
            let rule = texts[walk.below(5)].parse().unwrap();
            drop(cloud.app.add_security_group_rule(project, group, None, rule).await);
        }
    }
}

/// Does something with names.
async fn name(cloud: &Cloud, project: &Caller, walk: &mut Walk) {
    let (domain, name) = (["all.example", "p.example"][walk.below(2)], ["www", "db"][walk.below(2)]);
    let address = [format!("203.0.113.{}", 1 + walk.below(6)), format!("10.{}.0.2", 1 + walk.below(4))];
    if walk.below(3) == 0 {
        drop(cloud.app.delete_dns_record(&Caller::Admin, domain, name).await);
    } else {
        let request = DnsRecordRequest { addresses: vec![address[walk.below(2)].clone()] };
        let caller = [Caller::Admin, *project][walk.below(2)];
        drop(cloud.app.put_dns_record(&caller, (domain, name), request).await);
    }
}

async fn a_poll_without_a_change_ends_with_nothing(database: Database) {
    let cloud = Cloud::start(database).await;
    let host = cloud.host("h1").await;
    cloud.settle().await;
    let held = cloud.whole(&host).await.generation;
    cloud.project("another-thing").await;
    cloud.settle().await;
    let query = SpecQuery { since: Some(held), wait: Some(0) };
    assert_eq!(cloud.app.spec(&Caller::Agent(host.id), "h1", query).await.unwrap(), None);
}

async fn after_a_restart_everything_is_told_once_and_nothing_is_lost(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    cloud.settle().await;
    let before = cloud.whole(&host).await;
    let listed = cloud.app.instance(&Caller::Admin, "a", None).await.unwrap();
    cloud.restart().await;
    assert_eq!(cloud.app.instance(&Caller::Admin, "a", None).await.unwrap(), listed);
    let update = cloud.poll(&host, Some(before.generation)).await;
    assert_eq!(update.base, None, "other options or another version may compile otherwise");
    assert!(update.generation > before.generation);
    assert_eq!(update.put, before.objects);
}

async fn a_generation_that_is_not_known_is_told_everything(database: Database) {
    let cloud = Cloud::start(database).await;
    let host = cloud.host("h1").await;
    cloud.settle().await;
    let held = cloud.whole(&host).await.generation;
    for strange in [held + 1000, 0] {
        let update = cloud.poll(&host, Some(strange)).await;
        assert_eq!((update.base, update.generation), (None, held));
    }
}

async fn a_second_controller_s_changes_are_told_too(database: Database) {
    if let Database::Sqlite = database {
        return; // a file has one controller
    }
    let cloud = Cloud::start(database).await;
    let other = trestle_controller::app::App::open(&cloud.config).await.unwrap();
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.settle().await;
    let held = cloud.whole(&host).await.generation;
    let request =
        trestle_api::AttachRequest { host: Some("h1".to_owned()), network: None, plug: Default::default() };
    let id = instance.id.to_string();
    let attaching = other.attach(&Caller::Admin, &id, None, request);
    let (update, attached) = tokio::join!(cloud.poll(&host, Some(held)), attaching);
    assert!(update.put.contains_key(&Key::Link(attached.unwrap().device)));
    other.close().await;
}

async fn a_host_is_connected_while_it_polls_and_a_while_after(database: Database) {
    let cloud = Cloud::start(database).await;
    let host = cloud.host("h1").await;
    let connected = async || cloud.app.host(&Caller::Admin, "h1").await.unwrap().status.connected;
    assert!(!connected().await);
    let query = SpecQuery { since: None, wait: None };
    cloud.app.spec(&Caller::Agent(host.id), "h1", query).await.unwrap();
    assert!(connected().await);
    cloud.pass(41);
    assert!(!connected().await);
    cloud.settle().await;
    let held = cloud.whole(&host).await.generation;
    let app = cloud.app.clone();
    let poll = tokio::spawn(async move {
        let query = SpecQuery { since: Some(held), wait: Some(60) };
        app.spec(&Caller::Agent(host.id), "h1", query).await
    });
    let is_back = async {
        while !connected().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_back).await.unwrap();
    cloud.pass(1000);
    assert!(connected().await, "for as long as it waits");
    poll.abort();
}
