//! Networks by the thousand, whose they are, and what a project may have.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cloud::{Cloud, Database, flat_dhcp, told};
use sqlx::{AnyConnection, Connection};
use trestle_api::{
    AssociateRequest, MovePhase, NetworkFilter, NetworkPatch, NewInstance, NewNetwork, PageQuery, Project,
    ProjectPatch,
};
use trestle_controller::app::Caller;

crate::on_both!(
    four_thousand_networks_are_made_in_one_request_and_told_of,
    a_bulk_that_does_not_fit_makes_nothing,
    the_database_refuses_a_second_network_of_one_vlan,
    projects_that_claim_at_once_are_given_a_network_each,
    a_project_is_given_the_free_network_with_the_lowest_vlan_and_keeps_it,
    a_claim_counts_against_the_quota,
    a_project_has_no_more_fixed_ips_than_it_may,
    a_changed_network_is_kept_and_reaches_the_hosts_that_have_it,
    the_device_of_a_network_is_kept_for_guests_their_gateway_and_where_they_move,
);

fn vlans(count: u32, cidr: &str) -> NewNetwork {
    NewNetwork {
        name: "net".to_owned(),
        cidr: Some(cidr.to_owned()),
        num_networks: Some(count),
        network_size: Some(16),
        vlan_start: Some(2),
        ..NewNetwork::default()
    }
}

fn instance(name: &str) -> NewInstance {
    NewInstance { name: name.to_owned(), project: None, interfaces: None, ..Default::default() }
}

async fn project(cloud: &Cloud, name: &str) -> Project {
    cloud.app.project(&Caller::Admin, name).await.unwrap()
}

/// The first network that a new instance of this name joins.
async fn joined(cloud: &Cloud, project: &Caller, name: &str) -> String {
    let made = cloud.app.create_instance(project, instance(name)).await.unwrap();
    made.interfaces[0].network.to_string()
}

async fn four_thousand_networks_are_made_in_one_request_and_told_of(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let host = cloud.host("h1").await;
    let both = NewNetwork { cidr_v6: Some("fd00::/48".to_owned()), ..vlans(4000, "10.0.0.0/8") };
    let made = cloud.app.create_networks(&Caller::Admin, both).await.unwrap().items;
    assert_eq!(made.len(), 4000);
    let last = &made[3999];
    assert_eq!(
        (last.name.as_str(), last.vlan.unwrap().number(), last.bridge.as_str()),
        ("net-3999", 4001, "br4001")
    );
    let range = |subnet: &Option<trestle_api::Subnet>| subnet.as_ref().unwrap().cidr.to_string();
    assert_eq!(
        (range(&last.ipv4), range(&last.ipv6)),
        ("10.0.249.240/28".to_owned(), "fd00:0:0:f9f::/64".to_owned())
    );
    cloud.settle().await;
    let page = PageQuery { limit: Some(1000), after: None };
    let listed = cloud.app.list_networks(&Caller::Admin, &NetworkFilter::default(), &page).await.unwrap();
    assert_eq!(listed.items, made[..1000]);
    cloud.restart().await;
    assert_eq!(cloud.app.network(&Caller::Admin, "net-3999").await.unwrap(), *last);
    assert!(cloud.whole(&host).await.objects.is_empty(), "a host has nothing of them before they are used");
}

async fn a_bulk_that_does_not_fit_makes_nothing(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.app.create_networks(&Caller::Admin, vlans(3, "10.0.0.0/24")).await.unwrap();
    let again = vlans(3, "10.0.0.0/24");
    let other = NewNetwork { name: "other".to_owned(), ..vlans(14, "10.0.0.0/24") };
    let many = NewNetwork { name: "many".to_owned(), vlan_start: Some(4000), ..vlans(100, "10.1.0.0/16") };
    let mut outcomes = Vec::new();
    for new in [again, other, many] {
        outcomes.push(told(cloud.app.create_networks(&Caller::Admin, new).await));
    }
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n"), @"
        Conflict name_taken: there is a network `net-0` already
          name: name_taken: there is a network `net-0` already
          name: name_taken: there is a network `net-1` already
          name: name_taken: there is a network `net-2` already
        Conflict does_not_fit: 10.0.0.0/24 has room for 13 more networks of /28, not for 14
          cidr: does_not_fit: 10.0.0.0/24 has room for 13 more networks of /28, not for 14
        Conflict vlan_range_full: of the VLAN ids 4000 to 4094, 95 are free and 100 are needed
          vlan_start: vlan_range_full: of the VLAN ids 4000 to 4094, 95 are free and 100 are needed
        ");
    }
    assert_eq!(cloud.app.counts().await.unwrap().networks, 3);
}

async fn the_database_refuses_a_second_network_of_one_vlan(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.app.create_networks(&Caller::Admin, vlans(2, "10.0.0.0/24")).await.unwrap();
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    let refused = sqlx::query("UPDATE networks SET vlan = 2 WHERE vlan = 3").execute(&mut connection).await;
    let refused = refused.unwrap_err();
    assert!(refused.as_database_error().unwrap().is_unique_violation(), "{refused}");
}

async fn projects_that_claim_at_once_are_given_a_network_each(database: Database) {
    const NETWORKS: u32 = 12;
    let cloud = Arc::new(Cloud::start(database).await);
    cloud.app.create_networks(&Caller::Admin, vlans(NETWORKS, "10.0.0.0/24")).await.unwrap();
    let mut claims = Vec::new();
    for i in 0..=NETWORKS {
        let (cloud, project) = (Arc::clone(&cloud), cloud.project(&format!("p{i}")).await);
        let claim = async move { cloud.app.create_instance(&project, instance("a")).await };
        claims.push(tokio::spawn(claim));
    }
    let (mut claimed, mut refused) = (BTreeSet::new(), Vec::new());
    for claim in claims {
        match claim.await.unwrap() {
            Ok(made) => assert!(claimed.insert(made.interfaces[0].network.to_string()), "{claimed:?}"),
            Err(error) => refused.push(error.error.code),
        }
    }
    assert_eq!((claimed.len(), refused.as_slice()), (12, &["no_free_network".to_owned()][..]));
    assert_eq!(cloud.app.counts().await.unwrap().instances, 12, "the one refused leaves nothing behind");
}

async fn a_project_is_given_the_free_network_with_the_lowest_vlan_and_keeps_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let (one, two) = (cloud.project("one").await, cloud.project("two").await);
    cloud.app.create_networks(&Caller::Admin, vlans(3, "10.0.0.0/24")).await.unwrap();
    let request = AssociateRequest { project: "two".to_owned() };
    cloud.app.associate(&Caller::Admin, "net-0", request).await.unwrap();
    let networks =
        [joined(&cloud, &one, "a").await, joined(&cloud, &one, "b").await, joined(&cloud, &two, "a").await];
    assert_eq!(networks, ["net-1", "net-1", "net-0"]);
    let busy = cloud.app.disassociate(&Caller::Admin, "net-1").await;
    assert_eq!(
        told(busy),
        "Conflict in_use: network `net-1` of project `one` still has instance `a`, instance `b`"
    );
    cloud.delete(&two, "a").await;
    cloud.app.disassociate(&Caller::Admin, "net-0").await.unwrap();
    let three = cloud.project("three").await;
    assert_eq!(joined(&cloud, &three, "a").await, "net-0", "one that is free again is the lowest");
    let seen = cloud.app.list_networks(&one, &NetworkFilter::default(), &PageQuery::default()).await.unwrap();
    assert_eq!(seen.items.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["net-1"]);
}

async fn a_claim_counts_against_the_quota(database: Database) {
    let cloud = Cloud::start(database).await;
    let member = cloud.project("p").await;
    cloud.app.create_networks(&Caller::Admin, vlans(3, "10.0.0.0/24")).await.unwrap();
    let patch = ProjectPatch { networks: Some(1), ..ProjectPatch::default() };
    cloud.app.patch_project(&Caller::Admin, "p", patch).await.unwrap();
    assert_eq!(joined(&cloud, &member, "a").await, "net-0");
    assert_eq!(project(&cloud, "p").await.usage.networks, 1);
    let request = AssociateRequest { project: "p".to_owned() };
    let second = cloud.app.associate(&Caller::Admin, "net-1", request.clone()).await;
    assert_eq!(
        told(second),
        "Conflict quota_exceeded: project `p` has 1 of the 1 networks that it may have, and this takes 1 more"
    );
    let patch = ProjectPatch { networks: Some(-1), ..ProjectPatch::default() };
    cloud.app.patch_project(&Caller::Admin, "p", patch).await.unwrap();
    cloud.app.associate(&Caller::Admin, "net-1", request).await.unwrap();
    let now = project(&cloud, "p").await;
    assert_eq!((now.quota.networks, now.usage.networks), (None, 2));
}

async fn a_project_has_no_more_fixed_ips_than_it_may(database: Database) {
    let cloud = Cloud::start(database).await;
    let (member, other) = (cloud.project("p").await, cloud.project("other").await);
    cloud.network("n", "10.0.0.0/24").await;
    let patch = ProjectPatch { fixed_ips: Some(2), ..ProjectPatch::default() };
    cloud.app.patch_project(&Caller::Admin, "p", patch).await.unwrap();
    cloud.instance(&other, "x", "n").await;
    cloud.instance(&member, "a", "n").await;
    cloud.instance(&member, "b", "n").await;
    let third = cloud.try_instance(&member, "c", "n", None).await;
    assert_eq!(
        told(third),
        "Conflict quota_exceeded: project `p` has 2 of the 2 fixed IPs that it may have, and this takes 1 more"
    );
    cloud.delete(&member, "a").await;
    cloud.instance(&member, "c", "n").await;
    assert_eq!(project(&cloud, "p").await.usage.fixed_ips, 2);
}

async fn a_changed_network_is_kept_and_reaches_the_hosts_that_have_it(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let (host, other) = (cloud.host("h1").await, cloud.host("h2").await);
    cloud.network("n", "10.0.0.0/24").await;
    cloud.attach(&cloud.instance(&project, "a", "n").await, &host).await;
    cloud.settle().await;
    let [has, has_not] = [cloud.whole(&host).await, cloud.whole(&other).await];
    let patch = NetworkPatch {
        dns: Some(vec!["192.0.2.53".to_owned()]),
        domain: Some("example.internal".to_owned()),
        mtu: Some(1400),
        dhcp_options: Some(vec!["42,192.0.2.1".to_owned()]),
        ..NetworkPatch::default()
    };
    let changed = cloud.app.patch_network(&Caller::Admin, "n", patch).await.unwrap();
    cloud.settle().await;
    let update = cloud.poll(&host, Some(has.generation)).await;
    let mut keys: Vec<String> = update.put.keys().map(ToString::to_string).collect();
    keys.retain(|key| !key.starts_with("link/tr-"));
    assert_eq!(keys, ["link/br-n", "dns-name/n/a.example.internal", "dnsmasq/n"]);
    let gone: Vec<String> = update.gone.iter().map(ToString::to_string).collect();
    assert_eq!(gone, ["dns-name/n/a.trestle.internal"]);
    assert_eq!(cloud.whole(&other).await, has_not);
    cloud.restart().await;
    assert_eq!(cloud.app.network(&Caller::Admin, "n").await.unwrap(), changed);
}

/// Whether the network's device may be another now.
async fn may_change_device(cloud: &Cloud, device: &str) -> Result<(), String> {
    let patch = NetworkPatch { bridge_interface: Some(device.to_owned()), ..NetworkPatch::default() };
    cloud.app.patch_network(&Caller::Admin, "n", patch).await.map(drop).map_err(|error| error.to_string())
}

async fn the_device_of_a_network_is_kept_for_guests_their_gateway_and_where_they_move(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let (gateway, old, new) = (cloud.host("gw").await, cloud.host("old").await, cloud.host("new").await);
    let _agents = [cloud.agent(&gateway).await, cloud.agent(&old).await, cloud.agent(&new).await];
    let network = NewNetwork {
        multi_host: Some(false),
        gateway_host: Some("gw".to_owned()),
        bridge_interface: Some("eth2".to_owned()),
        ..flat_dhcp("n", "10.0.0.0/24", "br-n")
    };
    cloud.make(network).await.unwrap();
    let instance = cloud.instance(&project, "a", "n").await;
    may_change_device(&cloud, "eth3").await.unwrap();
    cloud.attach(&instance, &old).await;
    cloud.shift(&instance.id.to_string(), &new, MovePhase::Prepare).await;
    let refused = may_change_device(&cloud, "eth4").await.unwrap_err();
    assert_eq!(
        refused,
        "the device of network `n` cannot be changed while the network stands on host `gw`, host `new`, host `old`"
    );
    cloud.shift(&instance.id.to_string(), &new, MovePhase::Switch).await;
    let refused = may_change_device(&cloud, "").await.unwrap_err();
    assert!(refused.ends_with("stands on host `gw`, host `new`"), "{refused}");
    cloud.app.detach(&project, "a", None, None).await.unwrap();
    may_change_device(&cloud, "").await.unwrap();
}
