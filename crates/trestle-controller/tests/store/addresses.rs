//! Who is given which address, and when one that was given back is free.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cloud::{Cloud, Database, address, flat_dhcp, told};
use sqlx::{AnyConnection, Connection, Row};
use trestle_api::spec::Key;
use trestle_api::{GatewayRequest, MovePhase, Network, NewNetwork, ReserveRequest};
use trestle_controller::app::Caller;
use trestle_core::plan::{Problem, ProblemCode};

crate::on_both!(
    many_clients_on_a_small_network_are_given_every_address_once,
    a_network_of_any_size_costs_no_rows,
    the_address_released_longest_ago_is_taken_first,
    an_address_asked_for_is_skipped_when_its_turn_comes,
    networks_that_overlap_are_refused_by_name_and_by_the_database,
    what_is_free_is_what_would_be_given_out_now,
    of_many_overlapping_networks_made_at_once_one_stands,
    a_released_address_is_free_when_its_host_has_ended_the_lease,
    a_released_address_is_free_after_the_timeout_whatever_its_host_says,
    without_force_dhcp_release_only_the_timeout_counts,
    an_address_of_an_interface_unplugged_before_waits_for_the_unplugging,
    a_network_of_both_families_gives_an_address_of_each,
    reserved_addresses_are_given_to_nobody_until_they_are_no_more,
    many_addresses_asked_for_are_passed_over_at_once,
    an_address_waits_for_every_host_that_served_it,
    an_address_waits_for_the_gateways_that_served_it,
    a_host_has_a_gateway_address_of_its_own_while_it_has_an_interface,
);

async fn many_clients_on_a_small_network_are_given_every_address_once(database: Database) {
    let cloud = Arc::new(Cloud::start(database).await);
    let project = cloud.project("p").await;
    cloud.network("small", "10.0.0.0/26").await;
    let number = Arc::new(AtomicUsize::new(0));
    let clients = (0..8).map(|_| {
        let (cloud, number) = (Arc::clone(&cloud), Arc::clone(&number));
        tokio::spawn(async move {
            let mut given = Vec::new();
            loop {
                let name = format!("i{}", number.fetch_add(1, Ordering::SeqCst));
                match cloud.try_instance(&project, &name, "small", None).await {
                    Ok(instance) => given.push(address(&instance)),
                    Err(error) => {
                        assert_eq!(error.error.code, "network_full");
                        return given;
                    }
                }
            }
        })
    });
    let mut given = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        given.extend(client.await.unwrap());
    }
    let expected: BTreeSet<String> = (2..=62).map(|last| format!("10.0.0.{last}")).collect();
    assert_eq!(given.len(), expected.len());
    assert_eq!(given.into_iter().collect::<BTreeSet<_>>(), expected);
    let instances = cloud.app.counts().await.unwrap().instances;
    assert_eq!(instances, 61, "a refused instance leaves nothing behind");
}

async fn a_network_of_any_size_costs_no_rows(database: Database) {
    let cloud = Cloud::start(database).await;
    let network = cloud.network("huge", "10.0.0.0/8").await;
    let ipv4 = network.ipv4.unwrap();
    assert_eq!((ipv4.total, ipv4.used), ((1 << 24) - 3, 0));
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    let count = sqlx::query("SELECT COUNT(*) FROM fixed_ips").fetch_one(&mut connection).await.unwrap();
    assert_eq!(count.get::<i64, _>(0), 0);
}

async fn the_address_released_longest_ago_is_taken_first(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/29").await;
    for name in ["a", "b", "c", "d"] {
        cloud.instance(&project, name, "n").await;
    }
    for name in ["c", "a"] {
        cloud.pass(1);
        cloud.delete(&project, name).await;
    }
    let mut given = Vec::new();
    for name in ["e", "f", "g"] {
        given.push(address(&cloud.instance(&project, name, "n").await));
    }
    assert_eq!(given, ["10.0.0.6", "10.0.0.4", "10.0.0.2"], "a fresh one, then the longest released");
    let full = cloud.try_instance(&project, "h", "n", None).await;
    assert_eq!(
        told(full),
        "Conflict network_full: network `n` is full: all of its 5 IPv4 addresses are taken"
    );
}

async fn an_address_asked_for_is_skipped_when_its_turn_comes(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/29").await;
    cloud.try_instance(&project, "a", "n", Some("10.0.0.3")).await.unwrap();
    let mut given = Vec::new();
    for name in ["b", "c"] {
        given.push(address(&cloud.instance(&project, name, "n").await));
    }
    assert_eq!(given, ["10.0.0.2", "10.0.0.4"]);
    let taken = cloud.try_instance(&project, "d", "n", Some("10.0.0.3")).await;
    assert_eq!(told(taken), "Conflict address_taken: 10.0.0.3 on network `n` is in use");
    let router = cloud.try_instance(&project, "d", "n", Some("10.0.0.1")).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(router), @"
        Invalid invalid: interfaces[0].addresses[0]: 10.0.0.1 is not an address for instances on network `n`: these are 10.0.0.1 to 10.0.0.6 but the router's 10.0.0.1
          interfaces[0].addresses[0]: bad_address: 10.0.0.1 is not an address for instances on network `n`: these are 10.0.0.1 to 10.0.0.6 but the router's 10.0.0.1
        ");
    }
}

async fn networks_that_overlap_are_refused_by_name_and_by_the_database(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.network("first", "10.0.0.0/16").await;
    let inside = cloud.try_network("second", "10.0.7.0/24", "br-first").await;
    let around = cloud.try_network("second", "10.0.0.0/8", "br2").await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(inside), @"
        Conflict bridge_taken: bridge `br-first` is that of network `first`; two networks cannot share one
          bridge: bridge_taken: bridge `br-first` is that of network `first`; two networks cannot share one
          cidr: network_overlap: 10.0.7.0/24 overlaps with network `first`, which has 10.0.0.0/16
        ");
        insta::assert_snapshot!(told(around), @"
        Conflict network_overlap: 10.0.0.0/8 overlaps with network `first`, which has 10.0.0.0/16
          cidr: network_overlap: 10.0.0.0/8 overlaps with network `first`, which has 10.0.0.0/16
        ");
    }
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    let behind_its_back = |cidr: &'static str, first: &'static str, last: &'static str| {
        sqlx::query(
            "INSERT INTO subnets (network, family, cidr, first_address, last_address, allowed_first, allowed_last,
                 dhcp_start)
             SELECT id, 6, $1, $2, $3, $3, $3, $3 FROM networks",
        )
        .bind(cidr)
        .bind(first)
        .bind(last)
    };
    for (cidr, first, last) in [
        ("10.0.255.254/31", "40a00fffe", "40a00ffff"),
        ("8.0.0.0/6", "408000000", "40bffffff"),
        ("10.0.128.0/17", "40a008000", "40a00ffff"),
    ] {
        let refused = behind_its_back(cidr, first, last).execute(&mut connection).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("subnets_do_not_overlap"), "{cidr}: {refused}");
    }
    behind_its_back("10.1.0.0/30", "40a010000", "40a010003").execute(&mut connection).await.unwrap();
}

async fn of_many_overlapping_networks_made_at_once_one_stands(database: Database) {
    let cloud = Arc::new(Cloud::start(database).await);
    let clients = (0..8).map(|i| {
        let cloud = Arc::clone(&cloud);
        tokio::spawn(async move {
            let cidr = format!("10.0.0.0/{}", 16 + i);
            cloud
                .try_network(&format!("n{i}"), &cidr, &format!("br{i}"))
                .await
                .map_err(|error| error.error.code)
        })
    });
    let mut made = 0;
    for client in clients.collect::<Vec<_>>() {
        match client.await.unwrap() {
            Ok(_) => made += 1,
            Err(code) => assert_eq!(code, "network_overlap"),
        }
    }
    assert_eq!(made, 1);
}

async fn a_released_address_is_free_when_its_host_has_ended_the_lease(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/30").await;
    let instance = cloud.instance(&project, "a", "n").await;
    let attached = cloud.attach(&instance, &host).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Allocated");
    cloud.delete(&project, "a").await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling");
    let full = cloud.try_instance(&project, "b", "n", None).await;
    assert_eq!(
        told(full),
        "Conflict network_full: network `n` is full: of its 1 IPv4 addresses, 1 were given back and are not free yet"
    );
    let asked = cloud.try_instance(&project, "b", "n", Some("10.0.0.2")).await;
    assert_eq!(
        told(asked),
        "Conflict address_taken: 10.0.0.2 on network `n` was given back and is not free yet"
    );

    cloud.report(&host, attached.generation, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling", "its host has not heard of the release");
    let released = cloud.app.counts().await.unwrap().revision;
    let still_leased = Problem {
        key: Key::Lease("n".parse().unwrap(), attached.mac),
        code: ProblemCode::StepFailed,
        detail: "dhcp_release failed".to_owned(),
    };
    cloud.report(&host, released, [still_leased]).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling", "its host could not end the lease");
    let released = cloud.app.counts().await.unwrap().revision;
    cloud.report(&host, released, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free");
    assert_eq!(address(&cloud.instance(&project, "b", "n").await), "10.0.0.2");
}

async fn a_released_address_is_free_after_the_timeout_whatever_its_host_says(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/30").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    cloud.delete(&project, "a").await;
    cloud.pass(crate::cloud::TIMEOUT.as_secs() - 1);
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling");
    cloud.pass(1);
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free");
    assert_eq!(address(&cloud.instance(&project, "b", "n").await), "10.0.0.2");
}

async fn without_force_dhcp_release_only_the_timeout_counts(database: Database) {
    let cloud = Cloud::start_with(database, |config| config.force_dhcp_release = false).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/30").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    cloud.delete(&project, "a").await;
    let released = cloud.app.counts().await.unwrap().revision;
    cloud.report(&host, released, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling");
    cloud.pass(crate::cloud::TIMEOUT.as_secs());
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free");
}

async fn an_address_of_an_interface_unplugged_before_waits_for_the_unplugging(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/30").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    let detached = cloud.app.detach(&project, "a", None, None).await.unwrap();
    assert_eq!(cloud.addresses().await, "10.0.0.2 Allocated", "it is kept until the instance is deleted");
    cloud.delete(&project, "a").await;
    cloud.report(&host, detached.generation - 1, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling");
    cloud.report(&host, detached.generation, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free");
}

fn dual_stack(name: &str) -> NewNetwork {
    let cidr_v6 = Some("2001:db8::/64".to_owned());
    NewNetwork { cidr_v6, ..flat_dhcp(name, "10.0.0.0/29", "br0") }
}

async fn a_network_of_both_families_gives_an_address_of_each(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let network = cloud.make(dual_stack("n")).await.unwrap();
    let ipv6 = network.ipv6.unwrap();
    assert_eq!(
        (ipv6.total, ipv6.used, ipv6.dhcp_start.to_string()),
        ((1 << 53) - 1, 0, "2001:db8::2".to_owned())
    );
    cloud.instance(&project, "a", "n").await;
    cloud.try_instance(&project, "b", "n", Some("2001:db8::ff")).await.unwrap();
    cloud.instance(&project, "c", "n").await;
    let mut given = Vec::new();
    for name in ["a", "b", "c"] {
        let instance = cloud.app.instance(&project, name, None).await.unwrap();
        given.push(instance.interfaces[0].addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    assert_eq!(
        given,
        [["10.0.0.2", "2001:db8::2"], ["10.0.0.3", "2001:db8::ff"], ["10.0.0.4", "2001:db8::3"],]
    );
    let listed: Vec<String> = cloud.fixed_ips().await.iter().map(|ip| ip.address.to_string()).collect();
    assert_eq!(listed.join(" "), "10.0.0.2 10.0.0.3 10.0.0.4 2001:db8::2 2001:db8::3 2001:db8::ff");
    let network = cloud.app.network(&project, "n").await.unwrap();
    assert_eq!((network.ipv4.unwrap().used, network.ipv6.unwrap().used), (3, 3));
}

async fn what_is_free_is_what_would_be_given_out_now(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    // Given out are .4, .5 and .6.
    let dhcp_start = Some("10.0.0.4".to_owned());
    cloud.make(NewNetwork { dhcp_start, ..flat_dhcp("n", "10.0.0.0/29", "br0") }).await.unwrap();
    let counts = async || {
        let ipv4 = cloud.app.network(&project, "n").await.unwrap().ipv4.unwrap();
        (ipv4.total, ipv4.used, ipv4.free)
    };
    assert_eq!(counts().await, (3, 0, 3));
    cloud.try_instance(&project, "asked", "n", Some("10.0.0.2")).await.unwrap();
    assert_eq!(counts().await, (3, 1, 3), "what lies before the start is in use and takes nothing away");
    let a = cloud.instance(&project, "a", "n").await;
    assert_eq!(counts().await, (3, 2, 2));
    reserve(&cloud, "10.0.0.4").await;
    assert_eq!(counts().await, (2, 2, 2), "what is reserved is not counted, in use or not");
    unreserve(&cloud, "10.0.0.4").await;
    cloud.attach(&a, &host).await;
    cloud.delete(&project, "a").await;
    assert_eq!(counts().await, (3, 2, 2), "the host may still serve it");
    let left = cloud.app.counts().await.unwrap().revision;
    cloud.report(&host, left, []).await;
    assert_eq!(counts().await, (3, 1, 3));
    for (name, free) in [("b", 2), ("c", 1), ("d", 0)] {
        cloud.instance(&project, name, "n").await;
        assert_eq!(counts().await.2, free);
    }
    let full = cloud.try_instance(&project, "e", "n", None).await;
    assert_eq!(full.unwrap_err().error.code, "network_full");
}

async fn reserve(cloud: &Cloud, range: &str) -> Network {
    let request = ReserveRequest { range: range.to_owned(), reason: "\"for\" printers".to_owned() };
    cloud.app.reserve(&Caller::Admin, "n", request).await.unwrap()
}

async fn unreserve(cloud: &Cloud, range: &str) {
    let request = ReserveRequest { range: range.to_owned(), reason: String::new() };
    cloud.app.unreserve(&Caller::Admin, "n", request).await.unwrap();
}

async fn reserved_addresses_are_given_to_nobody_until_they_are_no_more(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/29").await;
    cloud.instance(&project, "a", "n").await;
    cloud.instance(&project, "b", "n").await;
    let network = reserve(&cloud, "10.0.0.3-10.0.0.4").await;
    let reserved: Vec<String> =
        network.reserved.iter().map(|r| format!("{} {}", r.range, r.reason)).collect();
    assert_eq!(reserved, ["10.0.0.3-10.0.0.4 \"for\" printers"]);
    let ipv4 = network.ipv4.unwrap();
    assert_eq!((ipv4.total, ipv4.used), (3, 2), "what is reserved is not given out, but may be in use");
    let asked = cloud.try_instance(&project, "x", "n", Some("10.0.0.4")).await;
    assert_eq!(asked.unwrap_err().error.code, "address_reserved");
    cloud.delete(&project, "b").await;
    let mut given = Vec::new();
    for name in ["c", "d"] {
        given.push(address(&cloud.instance(&project, name, "n").await));
    }
    assert_eq!(given, ["10.0.0.5", "10.0.0.6"], "neither the fresh one nor the one given back");
    let full = cloud.try_instance(&project, "e", "n", None).await;
    assert_eq!(
        told(full),
        "Conflict network_full: network `n` is full: all of its 3 IPv4 addresses are taken"
    );
    unreserve(&cloud, "10.0.0.3-10.0.0.4").await;
    let mut given = Vec::new();
    for name in ["e", "f"] {
        given.push(address(&cloud.instance(&project, name, "n").await));
    }
    assert_eq!(given, ["10.0.0.4", "10.0.0.3"], "the one that nobody had, then the one given back");
}

async fn many_addresses_asked_for_are_passed_over_at_once(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/16").await;
    // More than are looked at together.
    for i in 2..302 {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i).to_string();
        cloud.try_instance(&project, &format!("i{i}"), "n", Some(&address)).await.unwrap();
    }
    let next = cloud.instance(&project, "next", "n").await;
    assert_eq!(address(&next), "10.0.1.46");
    cloud.try_instance(&project, "ahead", "n", Some("10.0.1.47")).await.unwrap();
    assert_eq!(address(&cloud.instance(&project, "after", "n").await), "10.0.1.48");
}

async fn an_address_waits_for_every_host_that_served_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let (old, new) = (cloud.host("old").await, cloud.host("new").await);
    cloud.network("n", "10.0.0.0/30").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &old).await;
    let agent = cloud.agent(&new).await;
    cloud.shift("a", &new, MovePhase::Both).await;
    drop(agent);
    let moved = cloud.app.counts().await.unwrap().revision;
    cloud.delete(&project, "a").await;
    let deleted = cloud.app.counts().await.unwrap().revision;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling");
    cloud.report(&new, deleted, []).await;
    cloud.report(&old, moved - 1, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling", "the old one has not heard of the move");
    cloud.report(&old, moved, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free", "of the end it need not hear");
    assert_eq!(address(&cloud.instance(&project, "b", "n").await), "10.0.0.2");
    cloud.delete(&project, "b").await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free", "who served it before is forgotten");
}

async fn an_address_waits_for_the_gateways_that_served_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let [first, second, compute] =
        [cloud.host("gw1").await, cloud.host("gw2").await, cloud.host("compute").await];
    let single = NewNetwork { multi_host: Some(false), ..flat_dhcp("n", "10.0.0.0/30", "br0") };
    let gateway_host = Some("gw1".to_owned());
    let bridge_interface = Some("eth1".to_owned());
    cloud.make(NewNetwork { gateway_host, bridge_interface, ..single }).await.unwrap();
    let instance = cloud.instance(&project, "a", "n").await;
    let agents = [cloud.agent(&first).await, cloud.agent(&second).await];
    cloud.attach(&instance, &compute).await;
    let request = GatewayRequest { host: "gw2".to_owned() };
    let network = cloud.app.set_gateway(&Caller::Admin, "n", request).await.unwrap();
    assert_eq!(network.gateway_host.unwrap().as_str(), "gw2");
    drop(agents);
    let handed_over = cloud.app.counts().await.unwrap().revision;
    cloud.delete(&project, "a").await;
    let deleted = cloud.app.counts().await.unwrap().revision;
    cloud.report(&compute, deleted, []).await;
    cloud.report(&second, handed_over, []).await;
    cloud.report(&first, handed_over, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Cooling", "the gateway has not heard of the end");
    cloud.report(&second, deleted, []).await;
    assert_eq!(cloud.addresses().await, "10.0.0.2 Free");
}

async fn a_host_has_a_gateway_address_of_its_own_while_it_has_an_interface(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.make(NewNetwork { share_address: Some(false), ..dual_stack("n") }).await.unwrap();
    for name in ["a", "b"] {
        let instance = cloud.instance(&project, name, "n").await;
        cloud.attach(&instance, &host).await;
    }
    let holders = async || {
        let lines = cloud.fixed_ips().await.into_iter().map(|ip| {
            let holder = ip.host.or(ip.instance).map_or("nobody".to_owned(), |name| name.to_string());
            format!("{} {holder} {:?}", ip.address, ip.state)
        });
        lines.collect::<Vec<_>>().join(", ")
    };
    let held = holders().await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(held, @"10.0.0.2 a Allocated, 10.0.0.3 h1 Allocated, 10.0.0.4 b Allocated, 2001:db8::2 a Allocated, 2001:db8::3 h1 Allocated, 2001:db8::4 b Allocated");
    }
    let first = cloud.app.instance(&project, "a", None).await.unwrap();
    let attached = cloud.attach(&first, &host).await;
    assert_eq!(
        attached.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.3", "2001:db8::3"]
    );
    cloud.delete(&project, "a").await;
    assert!(holders().await.contains("10.0.0.3 h1 Allocated"));
    cloud.app.detach(&project, "b", None, None).await.unwrap();
    assert!(holders().await.contains("10.0.0.3 nobody Cooling"));
    let left = cloud.app.counts().await.unwrap().revision;
    cloud.report(&host, left, []).await;
    let held = holders().await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(held, @"10.0.0.2 nobody Free, 10.0.0.3 nobody Free, 10.0.0.4 b Allocated, 2001:db8::2 nobody Free, 2001:db8::3 nobody Free, 2001:db8::4 b Allocated");
    }
}
