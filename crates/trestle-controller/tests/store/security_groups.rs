//! Security groups and address groups: what the database holds to, and what goes with what.

use sqlx::{AnyConnection, Connection, Executor};
use trestle_api::agent::{Report, RuleCounter};
use trestle_api::{
    AddressGroupPatch, Host, InterfacePatch, NewAddressGroup, NewSecurityGroup, NewSecurityGroupRule,
    PageQuery, SecurityGroup, SecurityGroupFilter,
};
use trestle_controller::app::Caller;
use trestle_controller::error::AppError;

use crate::cloud::{Cloud, Database, told};

crate::on_both!(
    a_project_comes_and_goes_with_its_groups,
    numbers_are_never_given_twice,
    a_rule_that_has_ended_goes_by_itself_and_makes_room_before,
    hosts_have_followed_when_a_change_of_rules_is_answered,
    what_rules_decided_on_is_summed_over_hosts,
    the_database_itself_keeps_what_is_in_use_and_rules_apart,
    projects_that_were_there_get_their_group_and_their_interfaces_are_in_it,
);

async fn group(cloud: &Cloud, caller: &Caller, name: &str) -> SecurityGroup {
    let new = NewSecurityGroup { name: name.to_owned(), ..NewSecurityGroup::default() };
    cloud.app.create_security_group(caller, new).await.unwrap()
}

async fn add(cloud: &Cloud, caller: &Caller, group: &str, rule: &str) -> Result<u32, AppError> {
    let new: NewSecurityGroupRule = rule.parse().unwrap();
    cloud.app.add_security_group_rule(caller, group, None, new).await.map(|rule| rule.number)
}

/// The groups that the caller sees, each with its rules.
async fn groups(cloud: &Cloud, caller: &Caller) -> Vec<String> {
    let filter = SecurityGroupFilter::default();
    let groups = cloud.app.list_security_groups(caller, &filter, &PageQuery::default()).await.unwrap();
    let line = |group: SecurityGroup| {
        let rules: Vec<String> = group.rules.into_iter().map(|rule| rule.text).collect();
        format!("{}/{}: {}", group.project, group.name, rules.join(", "))
    };
    groups.items.into_iter().map(line).collect()
}

async fn a_project_comes_and_goes_with_its_groups(database: Database) {
    let cloud = Cloud::start_with(database, |config| {
        config.security_group_default_rules = vec!["ingress ipv4 icmp type 8".to_owned()];
    })
    .await;
    let project = cloud.project("p").await;
    group(&cloud, &project, "web").await;
    group(&cloud, &project, "db").await;
    let dns = NewAddressGroup { name: "dns".to_owned(), ranges: vec!["9.9.9.9".to_owned()], project: None };
    cloud.app.create_address_group(&project, dns).await.unwrap();
    for (name, rule) in [
        ("db", "ingress tcp 5432 from group web"),
        ("web", "egress tcp 5432 to group db"),
        ("web", "egress udp 53 to address-group dns"),
        ("web", "ingress any from group web"),
    ] {
        add(&cloud, &project, name, rule).await.unwrap();
    }
    let expected = [
        "p/default: ingress any from group default, egress any, ingress ipv4 icmp type 8",
        "p/web: egress tcp 5432 to group db, egress udp 53 to address-group dns, ingress any from group web",
        "p/db: ingress tcp 5432 from group web",
    ];
    assert_eq!(groups(&cloud, &project).await, expected);
    cloud.app.delete_project(&Caller::Admin, "p").await.unwrap();
    assert_eq!(groups(&cloud, &Caller::Admin).await, [""; 0]);
}

async fn numbers_are_never_given_twice(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let first = group(&cloud, &project, "web").await.number;
    let rule = add(&cloud, &project, "web", "ingress any").await.unwrap();
    cloud.app.delete_security_group(&project, "web", None).await.unwrap();
    cloud.restart().await;
    assert_eq!(group(&cloud, &project, "web").await.number, first + 1);
    assert_eq!(add(&cloud, &project, "web", "ingress any").await.unwrap(), rule + 1);
}

async fn a_rule_that_has_ended_goes_by_itself_and_makes_room_before(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let mut rule: NewSecurityGroupRule = "ingress tcp 22".parse().unwrap();
    rule.expires_in = Some(3600);
    cloud.app.add_security_group_rule(&project, "default", None, rule.clone()).await.unwrap();
    let same = cloud.app.add_security_group_rule(&project, "default", None, rule.clone()).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(same), @"Conflict rule_exists: security group `default` has the rule `ingress tcp 22` already");
    }
    cloud.pass(3600);
    cloud.app.add_security_group_rule(&project, "default", None, rule).await.unwrap();
    let later =
        "p/default: ingress any from group default, egress any, ingress tcp 22 until 2027-01-15T10:00:00Z";
    assert_eq!(groups(&cloud, &project).await, [later]);
    cloud.pass(3600);
    // It is looked at once at the start.
    cloud.restart().await;
    let mut events = cloud.app.subscribe();
    let kept = "p/default: ingress any from group default, egress any";
    while groups(&cloud, &project).await != [kept] {
        tokio::time::timeout(std::time::Duration::from_secs(60), events.changed()).await.unwrap().unwrap();
    }
}

async fn the_database_itself_keeps_what_is_in_use_and_rules_apart(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/24").await;
    cloud.instance(&project, "i", "n").await;
    group(&cloud, &project, "web").await;
    add(&cloud, &project, "default", "ingress tcp 80 from group web").await.unwrap();
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    if let Database::Sqlite = database {
        connection.execute("PRAGMA foreign_keys = ON").await.unwrap();
    }
    for refused in [
        "DELETE FROM security_groups WHERE name = 'web'",
        "DELETE FROM security_groups WHERE name = 'default'",
        "INSERT INTO security_group_rules SELECT '1', 99, security_group, direction, family, protocol, first_port,
             last_port, icmp_type, icmp_code, remote_cidr, remote_group, remote_address_group, 1, created_at
         FROM security_group_rules WHERE protocol = 6",
        "UPDATE security_group_rules SET remote_cidr = '10.0.0.0/8' WHERE protocol = 6",
        "UPDATE security_group_rules SET protocol = NULL WHERE protocol = 6",
        "UPDATE security_group_rules SET last_port = 79 WHERE protocol = 6",
    ] {
        assert!(connection.execute(refused).await.is_err(), "not refused: {refused}");
    }
}

async fn projects_that_were_there_get_their_group_and_their_interfaces_are_in_it(database: Database) {
    let mut cloud = Cloud::start(database).await;
    for name in ["red", "blue"] {
        let project = cloud.project(name).await;
        cloud.network(name, if name == "red" { "10.0.0.0/24" } else { "10.1.0.0/24" }).await;
        cloud.instance(&project, name, name).await;
    }
    cloud.app.close().await;
    let mut connection = AnyConnection::connect(&cloud.url()).await.unwrap();
    for undone in [
        "DROP TABLE observed_rule_counters",
        "DROP TABLE interface_address_pairs",
        "DROP TABLE interface_security_groups",
        "DROP TABLE security_group_rules",
        "DROP TABLE address_group_ranges",
        "DROP TABLE address_groups",
        "DROP TABLE security_groups",
        "DROP TABLE numbers",
        "ALTER TABLE interfaces DROP COLUMN port_security",
        "ALTER TABLE networks DROP COLUMN ether_types",
        "ALTER TABLE projects DROP COLUMN quota_security_groups",
        "ALTER TABLE projects DROP COLUMN quota_security_group_rules",
        "DELETE FROM _sqlx_migrations WHERE version = 5",
    ] {
        connection.execute(undone).await.unwrap();
    }
    connection.close().await.unwrap();
    cloud.restart().await;
    let whole = |name: &str| format!("{name}/default: ingress any from group default, egress any");
    assert_eq!(groups(&cloud, &Caller::Admin).await, [whole("red"), whole("blue")]);
    for name in ["red", "blue"] {
        let instance = cloud.app.instance(&Caller::Admin, name, None).await.unwrap();
        assert_eq!(instance.interfaces[0].security_groups[0].as_str(), "default");
        assert!(instance.interfaces[0].port_security);
    }
    let project = cloud.project("green").await;
    assert_eq!(add(&cloud, &project, "default", "ingress any").await.unwrap(), 7);
}

/// What rules of the default group decided on.
async fn counted(cloud: &Cloud) -> Vec<(u32, Option<u64>, Option<u64>)> {
    let group = cloud.app.security_group(&Caller::Admin, "default", None).await.unwrap();
    group.rules.iter().map(|rule| (rule.number, rule.packets, rule.bytes)).collect()
}

async fn count(cloud: &Cloud, host: &Host, counters: &[(u32, u64, u64)]) {
    let counter =
        |(rule, packets, bytes): &(u32, u64, u64)| (*rule, RuleCounter { packets: *packets, bytes: *bytes });
    let report = Report { rule_counters: counters.iter().map(counter).collect(), ..Report::default() };
    cloud.app.report(&Caller::Agent(host.id), host.name.as_str(), report).await.unwrap();
}

async fn what_rules_decided_on_is_summed_over_hosts(database: Database) {
    let cloud = Cloud::start(database).await;
    cloud.project("p").await;
    let (one, two) = (cloud.host("one").await, cloud.host("two").await);
    let revision = cloud.app.counts().await.unwrap().revision;
    count(&cloud, &one, &[(1, 10, 600), (77, 1, 1)]).await;
    count(&cloud, &two, &[(1, 5, 300), (2, u64::MAX, 0)]).await;
    let largest = (1 << 53) - 1;
    assert_eq!(counted(&cloud).await, [(1, Some(15), Some(900)), (2, Some(largest), Some(0))]);
    // The last of each host counts, and what it says nothing of stays.
    count(&cloud, &one, &[(1, 11, 660)]).await;
    count(&cloud, &two, &[(2, 3, 4)]).await;
    count(&cloud, &one, &[]).await;
    assert_eq!(counted(&cloud).await, [(1, Some(16), Some(960)), (2, Some(3), Some(4))]);
    assert_eq!(cloud.app.counts().await.unwrap().revision, revision, "a report is no change");
    cloud.app.delete_host(&Caller::Admin, "two").await.unwrap();
    assert_eq!(counted(&cloud).await, [(1, Some(11), Some(660)), (2, None, None)]);
    cloud.app.delete_project(&Caller::Admin, "p").await.unwrap();
}

async fn hosts_have_followed_when_a_change_of_rules_is_answered(database: Database) {
    let cloud = Cloud::start(database).await;
    let (project, host) = (cloud.project("p").await, cloud.host("h1").await);
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "i", "n").await;
    let _agent = cloud.agent(&host).await;
    cloud.attach(&instance, &host).await;
    let dns = NewAddressGroup { name: "dns".to_owned(), ranges: Vec::new(), project: None };
    cloud.app.create_address_group(&project, dns).await.unwrap();
    cloud.settle().await;
    let followed = async || {
        let applied = cloud.app.host(&Caller::Admin, "h1").await.unwrap().status.generation_applied;
        applied == cloud.app.counts().await.unwrap().revision
    };
    add(&cloud, &project, "default", "egress udp 53 to address-group dns").await.unwrap();
    assert!(followed().await);
    let patch = AddressGroupPatch { name: None, ranges: Some(vec!["9.9.9.9".to_owned()]) };
    cloud.app.patch_address_group(&project, "dns", None, patch).await.unwrap();
    assert!(followed().await);
    let rule = cloud.app.security_group(&project, "default", None).await.unwrap().rules[0].id.to_string();
    cloud.app.delete_security_group_rule(&project, "default", None, &rule).await.unwrap();
    assert!(followed().await);
    let patch = InterfacePatch { security_groups: Some(Vec::new()), ..InterfacePatch::default() };
    cloud.app.patch_interface(&project, ("i", None), "n", patch).await.unwrap();
    assert!(followed().await);
}
