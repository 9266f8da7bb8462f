//! Floating IPs: who is given which, what their hosts are told, and what comes and goes by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cloud::{Cloud, Database, flat_dhcp, told};
use sqlx::{AnyConnection, Connection, Row};
use trestle_api::agent::Report;
use trestle_api::spec::{Key, SpecUpdate};
use trestle_api::{
    FloatingIpState, GatewayRequest, Host, HostPatch, Instance, MovePhase, NewFloatingIp, NewInterface,
    NewNetwork, NewProject, PoolRangeRequest, ProjectPatch,
};
use trestle_controller::app::Caller;
use trestle_controller::config::Limit;
use trestle_core::plan::{Problem, ProblemCode};

crate::on_both!(
    many_clients_reserving_at_once_are_given_every_address_once,
    a_pool_of_any_size_costs_no_rows,
    the_floating_ip_released_longest_ago_is_taken_first,
    ranges_of_pools_and_networks_never_overlap,
    a_network_made_by_size_passes_over_pools,
    an_address_that_moves_between_interfaces_of_a_host_is_never_gone,
    an_address_that_moves_to_another_host_is_one_change_for_both,
    a_floating_ip_stands_where_its_host_says,
    what_a_host_cannot_have_is_taken_back,
    a_host_that_is_away_does_not_fail_the_call,
    what_is_nothing_to_its_host_is_not_waited_for,
    a_floating_ip_goes_where_its_instance_goes,
    what_leads_to_an_interface_ends_with_it,
    an_interface_that_something_leads_to_cannot_vanish,
    floating_ips_come_and_go_with_interfaces_by_themselves,
    only_what_is_reserved_counts_against_the_quota,
    ports_lead_to_what_the_same_host_serves,
    the_devices_that_a_host_names_are_asked_for,
    doing_it_again_changes_nothing,
);

fn numbers(update: &SpecUpdate) -> (Vec<String>, Vec<String>) {
    let about = |key: &Key| key.to_string().contains("203.0.113.");
    let put =
        update.put.iter().filter(|(key, _)| about(key)).map(|(key, object)| format!("{key} {object:?}"));
    (put.collect(), update.gone.iter().filter(|key| about(key)).map(Key::to_string).collect())
}

async fn revision(cloud: &Cloud) -> u64 {
    cloud.app.counts().await.unwrap().revision
}

async fn state(cloud: &Cloud, address: &str) -> FloatingIpState {
    cloud.app.floating_ip(&Caller::Admin, address).await.unwrap().state
}

/// Two instances on one host, a pool, and a floating IP.
struct Two {
    project: Caller,
    host: Host,
    first: Instance,
    second: Instance,
    address: String,
}

async fn two(cloud: &Cloud) -> Two {
    let project = cloud.project("p").await;
    let host = cloud.public_host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    cloud.pool("ext", "203.0.113.0/28").await;
    let first = cloud.instance(&project, "first", "n").await;
    let second = cloud.instance(&project, "second", "n").await;
    for instance in [&first, &second] {
        cloud.attach(instance, &host).await;
    }
    let address = cloud.reserve(&project).await;
    Two { project, host, first, second, address }
}

async fn many_clients_reserving_at_once_are_given_every_address_once(database: Database) {
    let cloud = Cloud::start_with(database, |config| config.quota_floating_ips = Limit::NONE).await;
    let cloud = Arc::new(cloud);
    let project = cloud.project("p").await;
    cloud.try_pool("ext", &["203.0.113.0/26", "198.51.100.7"]).await.unwrap();
    let clients = (0..8).map(|_| {
        let cloud = Arc::clone(&cloud);
        tokio::spawn(async move {
            let mut given = Vec::new();
            loop {
                match cloud.app.reserve_floating_ip(&project, NewFloatingIp::default()).await {
                    Ok(floating) => given.push(floating.address.to_string()),
                    Err(error) => {
                        assert_eq!(error.error.code, "pool_full");
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
    let mut expected: BTreeSet<String> = (1..=62).map(|last| format!("203.0.113.{last}")).collect();
    expected.insert("198.51.100.7".to_owned());
    assert_eq!(given.len(), expected.len());
    assert_eq!(given.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn a_pool_of_any_size_costs_no_rows(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let pool = cloud.try_pool("huge", &["11.0.0.0/16", "2001:db8::/64"]).await.unwrap();
    assert_eq!((pool.total, pool.used), ((1 << 53) - 1, 0));
    let rows = async || {
        let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
        let count =
            sqlx::query("SELECT COUNT(*) FROM floating_ips").fetch_one(&mut connection).await.unwrap();
        count.get::<i64, _>(0)
    };
    assert_eq!(rows().await, 0);
    assert_eq!(cloud.reserve(&project).await, "11.0.0.1");
    let ipv6 = NewFloatingIp { family: Some("ipv6".to_owned()), ..NewFloatingIp::default() };
    assert_eq!(
        cloud.app.reserve_floating_ip(&project, ipv6).await.unwrap().address.to_string(),
        "2001:db8::1"
    );
    assert_eq!(rows().await, 2);
}

async fn the_floating_ip_released_longest_ago_is_taken_first(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.pool("ext", "203.0.113.0/29").await;
    let asked = NewFloatingIp { address: Some("203.0.113.3".to_owned()), ..NewFloatingIp::default() };
    cloud.app.reserve_floating_ip(&project, asked).await.unwrap();
    let mut given = Vec::new();
    for _ in 0..4 {
        given.push(cloud.reserve(&project).await);
    }
    assert_eq!(given, ["203.0.113.1", "203.0.113.2", "203.0.113.4", "203.0.113.5"]);
    for released in ["203.0.113.4", "203.0.113.1"] {
        cloud.pass(1);
        cloud.app.release_floating_ip(&project, released).await.unwrap();
    }
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(cloud.reserve(&project).await);
    }
    assert_eq!(
        again,
        ["203.0.113.6", "203.0.113.4", "203.0.113.1"],
        "a fresh one, then the longest released"
    );
    let full = cloud.app.reserve_floating_ip(&project, NewFloatingIp::default()).await;
    assert_eq!(told(full), "Conflict pool_full: no IPv4 address of pool `ext` is free");
}

async fn ranges_of_pools_and_networks_never_overlap(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.network("n", "10.0.0.0/16").await;
    cloud.pool("ext", "203.0.113.0/28").await;
    let pools = cloud.try_pool("other", &["10.0.7.0/30", "203.0.113.9-203.0.113.40", "198.51.100.1"]).await;
    let network = cloud.try_network("m", "203.0.113.0/24", "br-m").await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(pools), @"
        Conflict range_overlaps: 10.0.7.1-10.0.7.2 overlaps with network `n`, which has 10.0.0.0/16
          ranges[0]: range_overlaps: 10.0.7.1-10.0.7.2 overlaps with network `n`, which has 10.0.0.0/16
          ranges[1]: range_overlaps: 203.0.113.9-203.0.113.40 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14
        ");
        insta::assert_snapshot!(told(network), @"
        Conflict range_overlaps: 203.0.113.0/24 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14
          cidr: range_overlaps: 203.0.113.0/24 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14
        ");
    }
    // The pool has 203.0.113.1 to 14, the network 10.0.0.0 to 10.0.255.255.
    let range = |first: &str, last: &str| {
        let columns = "INSERT INTO pool_ranges (first_address, last_address, pool)";
        format!("{columns} SELECT '4{first}', '4{last}', id FROM pools")
    };
    let subnet = |first: &str, last: &str| {
        format!(
            "INSERT INTO subnets (network, family, cidr, first_address, last_address, allowed_first, allowed_last,
                 dhcp_start)
             SELECT id, 6, '203.0.113.8/29', '4{first}', '4{last}', '4{last}', '4{last}', '4{last}' FROM networks"
        )
    };
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    for sql in [
        range("cb00710e", "cb00710f"),
        range("cb007101", "cb007101"),
        range("cb000000", "cbffffff"),
        range("0a00ffff", "0a010005"),
        range("09000000", "0b000000"),
        subnet("cb007108", "cb00710f"),
        "UPDATE pool_ranges SET last_address = '4cb0071ff'".to_owned(),
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).execute(&mut connection).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("overlap") || refused.contains("keep_their_range"), "{sql}: {refused}");
    }
    for sql in [range("cb00710f", "cb00710f"), subnet("cb007110", "cb007113")] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

async fn a_network_made_by_size_passes_over_pools(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.pool("ext", "10.0.0.70-10.0.0.130").await;
    let new = NewNetwork {
        name: "n".to_owned(),
        cidr: Some("10.0.0.0/24".to_owned()),
        num_networks: Some(2),
        network_size: Some(64),
        ..NewNetwork::default()
    };
    let made = cloud.app.create_networks(&Caller::Admin, new).await.unwrap().items;
    let ranges: Vec<String> =
        made.iter().map(|network| network.ipv4.as_ref().unwrap().cidr.to_string()).collect();
    assert_eq!(ranges, ["10.0.0.0/26", "10.0.0.192/26"]);
}

async fn an_address_that_moves_between_interfaces_of_a_host_is_never_gone(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, address, .. } = two(&cloud).await;
    cloud.associate(&address, "first").await;
    cloud.settle().await;
    for (now, fixed) in [("second", "10.0.0.3"), ("first", "10.0.0.2")] {
        let held = cloud.whole(&host).await.generation;
        cloud.try_associate(&address, now, true).await.unwrap();
        cloud.settle().await;
        let update = cloud.poll(&host, Some(held)).await;
        let (put, gone) = numbers(&update);
        assert_eq!(update.base, Some(held));
        let is_told = |beginning: &str, rest: &str| {
            put.iter().any(|line| line.starts_with(beginning) && line.contains(rest))
        };
        assert!(is_told(&format!("element/floating_to/{address} "), fixed), "{put:?}");
        assert!(!gone.iter().any(|key| key.starts_with("address/")), "{gone:?}");
        assert!(!gone.iter().any(|key| key.starts_with("element/floating/")), "{gone:?}");
    }
    // In one batch: from one instance to the other while the first is taken out.
    let held = cloud.whole(&host).await.generation;
    let detached = cloud.app.detach(&Caller::Admin, "first", None, None);
    let (moved, detached) = tokio::join!(cloud.try_associate(&address, "second", true), detached);
    moved.unwrap();
    detached.unwrap();
    cloud.settle().await;
    let (_, gone) = numbers(&cloud.poll(&host, Some(held)).await);
    assert!(!gone.iter().any(|key| key.starts_with("address/")), "{gone:?}");
}

async fn an_address_that_moves_to_another_host_is_one_change_for_both(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, second, address, .. } = two(&cloud).await;
    let other = cloud.public_host("h2").await;
    cloud.app.detach(&Caller::Admin, "second", None, None).await.unwrap();
    cloud.attach(&second, &other).await;
    cloud.associate(&address, "first").await;
    cloud.settle().await;
    let (old, new) = (cloud.whole(&host).await.generation, cloud.whole(&other).await.generation);
    let before = revision(&cloud).await;
    cloud.try_associate(&address, "second", true).await.unwrap();
    assert_eq!(revision(&cloud).await, before + 1);
    cloud.settle().await;
    let (left, come) = (cloud.poll(&host, Some(old)).await, cloud.poll(&other, Some(new)).await);
    assert_eq!((left.generation, come.generation), (before + 1, before + 1));
    let key = format!("address/eth0/{address}/32");
    assert!(numbers(&left).1.contains(&key) && numbers(&left).0.is_empty(), "{left:?}");
    assert!(numbers(&come).0.iter().any(|line| line.starts_with(&key)), "{come:?}");
}

async fn a_floating_ip_stands_where_its_host_says(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, address, .. } = two(&cloud).await;
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Reserved);
    let _agent = cloud.agent(&host).await;
    assert_eq!(cloud.associate(&address, "first").await.state, FloatingIpState::Active);
    cloud.app.detach(&Caller::Admin, "first", None, None).await.unwrap();
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Detached);
    assert_eq!(cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap().host, None);
}

fn broken(address: &str) -> Problem {
    let net = format!("{address}/32").parse().unwrap();
    Problem {
        key: Key::Address("eth0".parse().unwrap(), net),
        code: ProblemCode::StepFailed,
        detail: "another host has it".to_owned(),
    }
}

async fn what_a_host_cannot_have_is_taken_back(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, address, .. } = two(&cloud).await;
    let agent = cloud.agent(&host).await;
    cloud.associate(&address, "first").await;
    cloud.settle().await;
    drop(agent);
    let held = cloud.whole(&host).await.generation;
    let before = cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap();
    let refusing = async {
        let told = cloud.poll(&host, Some(held)).await;
        cloud.report(&host, told.generation, [broken(&address)]).await;
        let told = cloud.poll(&host, Some(told.generation)).await;
        cloud.report(&host, told.generation, []).await;
    };
    let (moved, ()) = tokio::join!(cloud.try_associate(&address, "second", true), refusing);
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(moved), @"Conflict host_problem: host `h1` cannot have floating IP 203.0.113.1: address/eth0/203.0.113.1/32: another host has it");
    }
    assert_eq!(cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap(), before);

    let held = cloud.whole(&host).await.generation;
    let refusing = async {
        let told = cloud.poll(&host, Some(held)).await;
        cloud.report(&host, told.generation, [broken(&address)]).await;
        let told = cloud.poll(&host, Some(told.generation)).await;
        cloud.report(&host, told.generation, []).await;
    };
    let (forwarded, ()) = tokio::join!(cloud.forward(&address, 80, "second"), refusing);
    assert_eq!(told(forwarded).split(':').next(), Some("Conflict host_problem"));
    assert_eq!(cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap(), before);
}

async fn a_host_that_is_away_does_not_fail_the_call(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, address, .. } = two(&cloud).await;
    assert_eq!(cloud.associate(&address, "first").await.state, FloatingIpState::Pending);
    let generation = revision(&cloud).await;
    cloud.report(&host, generation, [broken(&address)]).await;
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Failed);
    cloud.report(&host, generation, []).await;
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Active);
    cloud.project("another-thing").await;
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Active, "that is nothing to the host");
}

async fn what_is_nothing_to_its_host_is_not_waited_for(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { project, host, address, .. } = two(&cloud).await;
    let _agent = cloud.agent(&host).await;
    cloud.instance(&project, "third", "n").await;
    cloud.forward(&address, 80, "second").await.unwrap();
    cloud.associate(&address, "third").await;
    let stands = async {
        while state(&cloud, &address).await != FloatingIpState::Active {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), stands).await.unwrap();
}

async fn a_floating_ip_goes_where_its_instance_goes(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { host, address, .. } = two(&cloud).await;
    let other = cloud.public_host("h2").await;
    let _agents = [cloud.agent(&host).await, cloud.agent(&other).await];
    cloud.associate(&address, "first").await;
    cloud.shift("first", &other, MovePhase::Prepare).await;
    let floating = cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap();
    assert_eq!(floating.host.unwrap().to_string(), "h1", "what is prepared is reached where it was");
    cloud.shift("first", &other, MovePhase::Switch).await;
    let floating = cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap();
    assert_eq!(
        (floating.host.unwrap().to_string(), floating.state),
        ("h2".to_owned(), FloatingIpState::Active)
    );
    cloud.settle().await;
    let key = |key: &Key| key.to_string() == format!("address/eth0/{address}/32");
    let on = [cloud.whole(&host).await, cloud.whole(&other).await];
    assert_eq!(on.map(|spec| spec.objects.keys().any(key)), [false, true]);
}

async fn what_leads_to_an_interface_ends_with_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { project, host, address, .. } = two(&cloud).await;
    cloud.associate(&address, "first").await;
    cloud.forward(&address, 80, "second").await.unwrap();
    cloud.delete(&project, "second").await;
    let floating = cloud.app.floating_ip(&Caller::Admin, &address).await.unwrap();
    assert_eq!(
        (floating.target.unwrap().instance.to_string(), floating.forwards),
        ("first".to_owned(), vec![])
    );
    cloud.delete(&project, "first").await;
    assert_eq!(state(&cloud, &address).await, FloatingIpState::Reserved, "it is still the project's");
    cloud.settle().await;
    assert!(cloud.whole(&host).await.objects.is_empty());
}

async fn an_interface_that_something_leads_to_cannot_vanish(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { first, second, address, .. } = two(&cloud).await;
    cloud.associate(&address, "first").await;
    cloud.forward(&address, 80, "second").await.unwrap();
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    if let Database::Sqlite = database {
        sqlx::query("PRAGMA foreign_keys = ON").execute(&mut connection).await.unwrap();
    }
    for interface in [&first, &second] {
        let id = interface.interfaces[0].id.to_string();
        for sql in [
            "UPDATE fixed_ips SET interface = NULL, released_at = 1 WHERE interface = $1",
            "DELETE FROM interface_hosts WHERE interface = $1",
        ] {
            sqlx::query(sql).bind(id.as_str()).execute(&mut connection).await.unwrap();
        }
        let sql = "DELETE FROM interfaces WHERE id = $1";
        let refused = sqlx::query(sql).bind(id.as_str()).execute(&mut connection).await;
        assert!(refused.unwrap_err().to_string().to_lowercase().contains("foreign key"));
    }
}

async fn floating_ips_come_and_go_with_interfaces_by_themselves(database: Database) {
    let cloud = Cloud::start_with(database, |config| config.quota_floating_ips = Limit::at_most(0)).await;
    let project = cloud.project("p").await;
    cloud.pool("few", "203.0.113.1-203.0.113.2").await;
    cloud.pool("own", "198.51.100.1").await;
    let giving =
        NewNetwork { auto_assign: Some("own".to_owned()), ..flat_dhcp("own", "10.1.0.0/24", "br-own") };
    cloud.make(giving).await.unwrap();
    cloud.network("n", "10.0.0.0/24").await;
    let flat =
        NewNetwork { network_type: Some("flat".to_owned()), ..flat_dhcp("flat", "10.2.0.0/24", "br-flat") };
    cloud.make(flat).await.unwrap();
    let patch = ProjectPatch { auto_assign: Some("few".to_owned()), ..ProjectPatch::default() };
    cloud.app.patch_project(&Caller::Admin, "p", patch).await.unwrap();

    let given = |instance: &Instance| {
        let all = instance.interfaces.iter().map(|interface| {
            let floating: Vec<String> = interface.floating_ips.iter().map(ToString::to_string).collect();
            format!("{}: {}", interface.network, floating.join(" "))
        });
        all.collect::<Vec<_>>().join(", ")
    };
    let make = async |name: &str, networks: &[&str]| {
        let interface =
            |network: &&str| NewInterface { network: (*network).to_owned(), ..NewInterface::default() };
        let interfaces = Some(networks.iter().map(interface).collect());
        let new = trestle_api::NewInstance {
            name: name.to_owned(),
            project: None,
            interfaces,
            ..Default::default()
        };
        cloud.app.create_instance(&project, new).await
    };
    let one = make("one", &["flat", "n"]).await.unwrap();
    assert_eq!(given(&one), "flat: , n: 203.0.113.1");
    let added = NewInterface { network: "own".to_owned(), ..NewInterface::default() };
    let one = cloud.app.add_interface(&project, "one", None, added).await.unwrap();
    assert_eq!(given(&one), "flat: , n: 203.0.113.1, own: 198.51.100.1");
    let two = make("two", &["n"]).await.unwrap();
    assert_eq!(given(&two), "n: 203.0.113.2");
    let before = revision(&cloud).await;
    assert_eq!(
        told(make("three", &["n"]).await),
        "Conflict pool_full: no IPv4 address of pool `few` is free"
    );
    assert_eq!(
        told(make("three", &["own"]).await),
        "Conflict pool_full: no IPv4 address of pool `own` is free"
    );
    assert_eq!(revision(&cloud).await, before, "nothing was changed");

    let held = cloud.app.floating_ip(&project, "203.0.113.2").await.unwrap();
    assert!(held.auto_assigned);
    let released = cloud.app.release_floating_ip(&project, "203.0.113.2").await;
    let disassociated = cloud.app.disassociate_floating_ip(&project, "203.0.113.2").await;
    let moved = cloud.try_associate("203.0.113.2", "one", true).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(released), @"Conflict auto_assigned: floating IP 203.0.113.2 came with instance `two` and goes with it: it cannot be released");
        insta::assert_snapshot!(told(disassociated), @"Conflict auto_assigned: floating IP 203.0.113.2 came with instance `two` and goes with it: it cannot be disassociated");
        insta::assert_snapshot!(told(moved), @"Conflict auto_assigned: floating IP 203.0.113.2 came with instance `two` and goes with it: it cannot be moved");
    }
    cloud.delete(&project, "two").await;
    assert_eq!(
        told(cloud.app.floating_ip(&project, "203.0.113.2").await),
        "NotFound not_found: no floating IP `203.0.113.2`"
    );
    assert_eq!(given(&make("three", &["n"]).await.unwrap()), "n: 203.0.113.2");
    assert_eq!(cloud.app.project(&Caller::Admin, "p").await.unwrap().usage.floating_ips, 0);
    let none = ProjectPatch { auto_assign: Some(String::new()), ..ProjectPatch::default() };
    cloud.app.patch_project(&Caller::Admin, "p", none).await.unwrap();
    assert_eq!(given(&make("four", &["n"]).await.unwrap()), "n: ");
}

async fn only_what_is_reserved_counts_against_the_quota(database: Database) {
    let cloud = Cloud::start_with(database, |config| config.quota_floating_ips = Limit::at_most(1)).await;
    let project = cloud.project("p").await;
    cloud.pool("ext", "203.0.113.0/28").await;
    let first = cloud.reserve(&project).await;
    let over = cloud.app.reserve_floating_ip(&project, NewFloatingIp::default()).await;
    assert_eq!(
        told(over),
        "Conflict quota_exceeded: project `p` has 1 of the 1 floating IPs that it may have, and this takes 1 more"
    );
    let same = NewFloatingIp { address: Some(first.clone()), ..NewFloatingIp::default() };
    cloud.app.reserve_floating_ip(&project, same).await.unwrap();
    let other = cloud.app.create_project(&Caller::Admin, NewProject { name: "q".to_owned() }).await.unwrap();
    let theirs = NewFloatingIp { address: Some(first.clone()), ..NewFloatingIp::default() };
    let taken = cloud.app.reserve_floating_ip(&Caller::Member(other.id), theirs).await;
    assert_eq!(told(taken), "Conflict address_taken: another project has floating IP 203.0.113.1");
    cloud.app.release_floating_ip(&project, &first).await.unwrap();
    cloud.reserve(&project).await;
}

async fn ports_lead_to_what_the_same_host_serves(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { project, host, second, address, .. } = two(&cloud).await;
    let other = cloud.public_host("h2").await;
    let _agents = [cloud.agent(&host).await, cloud.agent(&other).await];
    let third = cloud.instance(&project, "third", "n").await;
    cloud.attach(&third, &other).await;
    cloud.forward(&address, 80, "first").await.unwrap();
    let apart = cloud.forward(&address, 81, "third").await;
    let whole = cloud.try_associate(&address, "third", false).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(apart), @"Conflict served_elsewhere: instance `third` is served by host `h2`, and floating IP 203.0.113.1 is on host `h1`: all that one leads to is served by one host");
        insta::assert_snapshot!(told(whole), @"Conflict served_elsewhere: instance `third` is served by host `h2`, and floating IP 203.0.113.1 is on host `h1`: all that one leads to is served by one host");
    }
    let both = cloud.forward(&address, 443, "second").await.unwrap();
    let served = |floating: trestle_api::FloatingIp| {
        floating.forwards.into_iter().map(|forward| (forward.port, forward.served)).collect::<Vec<_>>()
    };
    assert_eq!(both.host.as_ref().unwrap().as_str(), "h1");
    assert_eq!(served(both), [(80, true), (443, true)]);
    cloud.shift(second.name.as_str(), &other, MovePhase::Both).await;
    let later = cloud.app.floating_ip(&project, &address).await.unwrap();
    assert_eq!(served(later), [(80, true), (443, false)]);
}

async fn the_devices_that_a_host_names_are_asked_for(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { address, first, .. } = two(&cloud).await;
    let bare = cloud.host("bare").await;
    let agent = cloud.agent(&bare).await;
    let single = NewNetwork {
        multi_host: Some(false),
        gateway_host: Some("h1".to_owned()),
        ..flat_dhcp("s", "10.7.0.0/24", "br-s")
    };
    cloud.make(single).await.unwrap();
    let inside = cloud.instance(&cloud.project("q").await, "inside", "s").await;
    cloud.associate(&address, "first").await;

    let gone = HostPatch { public_interface: Some(String::new()), ..HostPatch::default() };
    let gone = cloud.app.patch_host(&Caller::Admin, "h1", gone).await;
    let moved = cloud.app.move_instance(
        &Caller::Admin,
        "first",
        None,
        trestle_api::MoveRequest { host: Some("bare".to_owned()), ..Default::default() },
    );
    let moved = moved.await;
    cloud.app.detach(&Caller::Admin, "first", None, None).await.unwrap();
    let attached = cloud.try_attach(&first, &bare, Default::default()).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(gone), @"Conflict no_public_interface: host `h1` has no public interface, which floating IP 203.0.113.1 is to be on");
        insta::assert_snapshot!(told(moved), @"Conflict no_public_interface: host `bare` has no public interface, which floating IP 203.0.113.1 is to be on");
        insta::assert_snapshot!(told(attached), @"Conflict no_public_interface: host `bare` has no public interface, which floating IP 203.0.113.1 is to be on");
    }
    let theirs = cloud.app.reserve_floating_ip(
        &Caller::Admin,
        NewFloatingIp { project: Some("q".to_owned()), ..NewFloatingIp::default() },
    );
    let theirs = theirs.await.unwrap().address.to_string();
    cloud.associate(&theirs, "inside").await;
    let h1 = cloud.app.host(&Caller::Admin, "h1").await.unwrap();
    let _other = cloud.agent(&h1).await;
    cloud.attach(&inside, &h1).await;
    let request = GatewayRequest { host: "bare".to_owned() };
    let without = cloud.app.set_gateway(&Caller::Admin, "s", request.clone()).await;
    let patch =
        |device: &str| HostPatch { public_interface: Some(device.to_owned()), ..HostPatch::default() };
    // It would report once more, of a host without devices.
    drop(agent);
    cloud.app.patch_host(&Caller::Admin, "bare", patch("eth7")).await.unwrap();
    cloud.settle().await;
    let devices = ["eth0", "eth1"].map(|device| device.parse().unwrap()).into();
    let report = Report { generation: cloud.whole(&bare).await.generation, devices, ..Report::default() };
    cloud.app.report(&Caller::Agent(bare.id), "bare", report).await.unwrap();
    let unknown = cloud.app.set_gateway(&Caller::Admin, "s", request.clone()).await;
    let known = cloud.app.patch_host(&Caller::Admin, "bare", patch("eth1")).await.unwrap();
    assert_eq!(known.status.devices.len(), 2);
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(without), @"Conflict no_public_interface: host `bare` has no public interface, which floating IP 203.0.113.2 is to be on");
        insta::assert_snapshot!(told(unknown), @"Conflict no_such_device: host `bare` has no device `eth7`, which floating IP 203.0.113.2 is to be on");
    }
    cloud.try_attach(&first, &bare, Default::default()).await.unwrap();
}

async fn doing_it_again_changes_nothing(database: Database) {
    let cloud = Cloud::start(database).await;
    let Two { project, address, .. } = two(&cloud).await;
    let range = PoolRangeRequest { range: "198.51.100.0/30".to_owned() };
    for twice in [false, true] {
        let before = revision(&cloud).await;
        cloud.app.add_pool_range(&Caller::Admin, "ext", range.clone()).await.unwrap();
        cloud.associate(&address, "first").await;
        cloud.forward(&address, 80, "second").await.unwrap();
        assert_eq!(revision(&cloud).await == before, twice);
    }
    cloud.app.unforward_port(&project, &address, ("tcp", "80")).await.unwrap();
    for twice in [false, true] {
        let before = revision(&cloud).await;
        cloud.app.disassociate_floating_ip(&project, &address).await.unwrap();
        cloud.app.remove_pool_range(&Caller::Admin, "ext", range.clone()).await.unwrap();
        assert_eq!(revision(&cloud).await == before, twice);
    }
    cloud.app.release_floating_ip(&project, &address).await.unwrap();
    let again = cloud.app.release_floating_ip(&project, &address).await;
    assert_eq!(told(again), "NotFound not_found: no floating IP `203.0.113.1`");
}
