//! Who is given which address, and when one that was given back is free.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cloud::{Cloud, Database, address, told};
use sqlx::{AnyConnection, Connection, Row};
use trestle_api::spec::Key;
use trestle_core::plan::{Problem, ProblemCode};

crate::on_both!(
    many_clients_on_a_small_network_are_given_every_address_once,
    a_network_of_any_size_costs_no_rows,
    the_address_released_longest_ago_is_taken_first,
    an_address_asked_for_is_skipped_when_its_turn_comes,
    networks_that_overlap_are_refused_by_name_and_by_the_database,
    of_many_overlapping_networks_made_at_once_one_stands,
    a_released_address_is_free_when_its_host_has_ended_the_lease,
    a_released_address_is_free_after_the_timeout_whatever_its_host_says,
    without_force_dhcp_release_only_the_timeout_counts,
    an_address_of_an_interface_unplugged_before_waits_for_the_unplugging,
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
    assert_eq!((network.addresses_total, network.addresses_used), ((1 << 24) - 3, 0));
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
    assert_eq!(told(full), "Conflict network_full: network `n` is full: all of its 5 addresses are taken");
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
    assert_eq!(told(taken), "Conflict address_taken: another interface on network `n` has 10.0.0.3");
    let router = cloud.try_instance(&project, "d", "n", Some("10.0.0.1")).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(router), @r"
        Invalid invalid: interfaces[0].address: 10.0.0.1 is not an address for instances on network `n`, which has 10.0.0.0/29 and the router 10.0.0.1
          interfaces[0].address: bad_address: 10.0.0.1 is not an address for instances on network `n`, which has 10.0.0.0/29 and the router 10.0.0.1
        ");
    }
}

async fn networks_that_overlap_are_refused_by_name_and_by_the_database(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.network("first", "10.0.0.0/16").await;
    let inside = cloud.try_network("second", "10.0.7.0/24", "br-first").await;
    let around = cloud.try_network("second", "10.0.0.0/8", "br2").await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(inside), @r"
        Conflict bridge_taken: bridge `br-first` is that of network `first`; two networks cannot share one
          bridge: bridge_taken: it is that of network `first`
          cidr: network_overlap: it overlaps with network `first`, which has 10.0.0.0/16
        ");
        insta::assert_snapshot!(told(around), @r"
        Conflict network_overlap: 10.0.0.0/8 overlaps with network `first`, which has 10.0.0.0/16
          cidr: network_overlap: it overlaps with network `first`, which has 10.0.0.0/16
        ");
    }
    let behind_its_back = "INSERT INTO networks (id, name, network_type, cidr, first_address, last_address, gateway,
            dhcp_start, bridge, bridge_mac, dns, domain, mtu, dhcp_lease_time, created_at)
        SELECT 'x', 'x', network_type, cidr, first_address, last_address, gateway, dhcp_start, 'x', 'x', dns, domain,
            mtu, dhcp_lease_time, created_at FROM networks";
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    let refused = sqlx::query(behind_its_back).execute(&mut connection).await.unwrap_err().to_string();
    assert!(refused.contains("networks_do_not_overlap"), "{refused}");
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
        "Conflict network_full: network `n` is full: of its 1 addresses, 1 were given back and are not free yet"
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
