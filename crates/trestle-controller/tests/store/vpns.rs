//! VPNs: one for a project, addresses and ports that nobody else has, and keys that end in time.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{AnyConnection, Connection, Row};
use trestle_api::vpn::VpnIdentity;
use trestle_api::{
    EventFilter, GatewayRequest, Host, HostPatch, NewNetwork, NewVpn, NewVpnUser, PageQuery, Vpn,
    VpnCredentials, VpnPatch, VpnUser, VpnUserRenewal,
};
use trestle_controller::app::Caller;
use trestle_controller::error::AppError;

use crate::cloud::{Agent, Cloud, Database, flat_dhcp, told};

crate::on_both!(
    a_project_has_one_vpn_whoever_asks_at_once,
    users_made_at_once_have_addresses_of_their_own,
    no_two_vpns_have_one_address_and_port,
    nothing_of_a_vpn_outlives_its_project,
    a_vlan_that_a_vpn_alone_was_on_is_free_when_its_project_goes,
    a_user_whose_time_is_over_is_out_until_renewed,
    a_vpn_s_own_certificate_is_made_anew_in_time,
    an_authority_that_has_ended_signs_nothing,
    a_vpn_goes_where_the_gateway_goes,
    keys_cannot_be_read_with_another_secret,
    a_revoked_user_s_address_goes_to_another,
    a_lost_secret_key_is_not_made_anew_beside_what_needs_it,
);

const DAY: i64 = 24 * 3600;

/// A project `red` with a network of its own, a pool, and a host that is connected.
struct Red {
    cloud: Cloud,
    member: Caller,
    host: Host,
    agent: Option<Agent>,
}

fn owned(name: &str, cidr: &str, project: &str) -> NewNetwork {
    NewNetwork { project: Some(project.to_owned()), ..flat_dhcp(name, cidr, &format!("br-{name}")) }
}

async fn red_with(
    database: Database,
    set: impl FnOnce(&mut trestle_controller::config::ControllerConfig),
) -> Red {
    let cloud = Cloud::start_with(database, set).await;
    let member = cloud.project("red").await;
    let host = cloud.public_host("host1").await;
    cloud.make(owned("rednet", "10.0.0.0/24", "red")).await.unwrap();
    cloud.pool("ext", "203.0.113.0/28").await;
    let agent = cloud.agent(&host).await;
    Red { cloud, member, host, agent: Some(agent) }
}

async fn red(database: Database) -> Red {
    red_with(database, |_| {}).await
}

impl Red {
    async fn vpn(&self) -> Vpn {
        self.cloud.app.create_vpn(&self.member, NewVpn::default()).await.unwrap()
    }

    async fn wireguard(&self) -> Vpn {
        let new = NewVpn { kind: Some("wireguard".to_owned()), ..NewVpn::default() };
        self.cloud.app.create_vpn(&self.member, new).await.unwrap()
    }

    async fn try_user(&self, name: &str, days: Option<u32>) -> Result<VpnCredentials, AppError> {
        let new = NewVpnUser { name: name.to_owned(), days };
        self.cloud.app.add_vpn_user(&self.member, "red", new).await
    }

    async fn users(&self) -> Vec<VpnUser> {
        self.cloud.app.list_vpn_users(&self.member, "red", &PageQuery::default()).await.unwrap().items
    }

    async fn identity(&self, host: &Host) -> Result<VpnIdentity, AppError> {
        self.cloud.app.vpn_identity(&Caller::Agent(host.id), host.name.as_str(), "red-vpn").await
    }

    /// What happened to the VPN, by kind.
    async fn events(&self, kind: &str) -> Vec<String> {
        let filter = EventFilter { kind: Some(kind.to_owned()), ..EventFilter::default() };
        let page = self.cloud.app.list_events(&self.member, &filter, &PageQuery::default()).await.unwrap();
        page.items.into_iter().map(|event| event.message).collect()
    }

    /// Starts the controller anew, which looks at once what has ended, and waits for such an event.
    async fn restart_until(&mut self, kind: &str) -> Vec<String> {
        self.cloud.restart().await;
        let looked = async {
            loop {
                let events = self.events(kind).await;
                if !events.is_empty() {
                    return events;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looked).await.unwrap()
    }
}

async fn a_project_has_one_vpn_whoever_asks_at_once(database: Database) {
    let red = red(database).await;
    let asking = (0..8).map(|_| red.cloud.app.create_vpn(&red.member, NewVpn::default()));
    let asked = futures_util::future::join_all(asking).await;
    let (made, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 7));
    for refusal in refused {
        assert_eq!(
            told(refusal),
            "Conflict vpn_exists: project `red` has a VPN already, into network `rednet`"
        );
    }
    assert_eq!(red.cloud.addresses().await, "10.0.0.2 Allocated");
}

async fn users_made_at_once_have_addresses_of_their_own(database: Database) {
    let red = red(database).await;
    let vpn = red.vpn().await;
    let names: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
    let made = futures_util::future::join_all(names.iter().map(|name| red.try_user(name, None))).await;
    let addresses: BTreeSet<_> = made.into_iter().map(|made| made.unwrap().user.address).collect();
    assert_eq!(addresses.len(), 8);
    assert!(!addresses.contains(&vpn.address));
    let instance = red.cloud.app.instance(&red.member, "red-vpn", None).await.unwrap();
    assert_eq!(instance.interfaces[0].addresses.len(), 9, "all are its interface's");
    let again = told(red.try_user("user0", None).await);
    assert_eq!(again, "Conflict name_taken: the VPN of project `red` has a user `user0` already");
}

async fn no_two_vpns_have_one_address_and_port(database: Database) {
    let red = red_with(database, |config| config.vpn_ip = Some("192.0.2.1".parse().unwrap())).await;
    let blue = red.cloud.project("blue").await;
    red.cloud.make(owned("bluenet", "10.1.0.0/24", "blue")).await.unwrap();
    let (first, second) = tokio::join!(
        red.cloud.app.create_vpn(&red.member, NewVpn::default()),
        red.cloud.app.create_vpn(&blue, NewVpn::default())
    );
    let ports: BTreeSet<u16> = [first.unwrap(), second.unwrap()].map(|vpn| vpn.port).into();
    assert_eq!(ports, [1000, 1001].into());
    let vpn = red.cloud.app.vpn(&blue, "blue").await.unwrap();
    let patch = VpnPatch { port: Some(vpn.port), ..VpnPatch::default() };
    let taken = format!("Conflict port_taken: port udp/{} of 192.0.2.1 leads elsewhere already", vpn.port);
    assert_eq!(told(red.cloud.app.patch_vpn(&red.member, "red", patch).await), taken);
    let mut behind = AnyConnection::connect(&red.cloud.url()).await.unwrap();
    let forced = sqlx::query("UPDATE vpns SET port = 1000").execute(&mut behind).await;
    assert!(forced.unwrap_err().into_database_error().unwrap().is_unique_violation());
}

async fn nothing_of_a_vpn_outlives_its_project(database: Database) {
    let red = red(database).await;
    red.vpn().await;
    red.try_user("alice", None).await.unwrap();
    // Its network is what keeps a project, not its VPN.
    let kept = told(red.cloud.app.delete_project(&Caller::Admin, "red").await);
    assert_eq!(kept, "Conflict in_use: project `red` still owns network `rednet`");
    assert_eq!(red.users().await.len(), 1, "and then the VPN is there as before");
    let mut behind = AnyConnection::connect(&red.cloud.url()).await.unwrap();
    sqlx::query("UPDATE networks SET project = NULL").execute(&mut behind).await.unwrap();
    red.cloud.app.delete_project(&Caller::Admin, "red").await.unwrap();
    for table in ["vpns", "vpn_users", "vpn_secrets", "instances", "interfaces", "port_forwards"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        let left: i64 = sqlx::query(sql).fetch_one(&mut behind).await.unwrap().get(0);
        assert_eq!(left, 0, "rows of {table}");
    }
    let held = "SELECT COUNT(*) FROM floating_ips WHERE project IS NOT NULL";
    let held: i64 = sqlx::query(held).fetch_one(&mut behind).await.unwrap().get(0);
    assert_eq!(held, 0, "its floating IP is given back");
    assert!(!red.cloud.addresses().await.contains("Allocated"));
}

async fn a_vlan_that_a_vpn_alone_was_on_is_free_when_its_project_goes(database: Database) {
    let red = red(database).await;
    let patch = HostPatch { vlan_interface: Some("eth2".to_owned()), ..HostPatch::default() };
    red.cloud.app.patch_host(&Caller::Admin, "host1", patch).await.unwrap();
    let blue = red.cloud.project("blue").await;
    let vlan = NewNetwork { vlan: Some(101), ..owned("tenants", "10.1.0.0/24", "blue") };
    let vlan = NewNetwork { network_type: Some("vlan".to_owned()), bridge: None, ..vlan };
    red.cloud.make(vlan).await.unwrap();
    red.cloud.app.create_vpn(&blue, NewVpn::default()).await.unwrap();
    red.cloud.app.delete_project(&Caller::Admin, "blue").await.unwrap();
    let network = red.cloud.app.network(&Caller::Admin, "tenants").await.unwrap();
    assert_eq!(network.project, None);
}

async fn a_user_whose_time_is_over_is_out_until_renewed(database: Database) {
    let mut red = red(database).await;
    red.wireguard().await;
    red.try_user("alice", Some(1)).await.unwrap();
    red.try_user("bob", Some(2)).await.unwrap();
    red.cloud.pass(DAY);
    let ended = red.restart_until("vpn.user_expired").await;
    assert_eq!(ended, ["the time of `alice` at the VPN of project `red` is over"]);
    let expired = |users: Vec<VpnUser>| users.iter().map(|user| user.expired).collect::<Vec<_>>();
    assert_eq!(expired(red.users().await), [true, false]);
    let (member, who) = (&red.member, ("red", "alice"));
    red.cloud.app.renew_vpn_user(member, who, VpnUserRenewal::default()).await.unwrap();
    assert_eq!(expired(red.users().await), [false, false]);
}

async fn a_vpn_s_own_certificate_is_made_anew_in_time(database: Database) {
    let mut red = red(database).await;
    red.vpn().await;
    let before = red.identity(&red.host).await.unwrap();
    let files: Vec<&String> = before.files.keys().collect();
    assert_eq!(files, ["ca.crt", "server.crt", "server.key", "tls-crypt.key"]);
    red.cloud.pass(200 * DAY);
    red.cloud.restart().await;
    assert_eq!(red.identity(&red.host).await.unwrap().id, before.id, "more than a third is left");
    red.cloud.pass(50 * DAY);
    let renewed = red.restart_until("vpn.certificate_renewed").await;
    assert_eq!(renewed, ["the VPN of project `red` has a new certificate of its own"]);
    let after = red.identity(&red.host).await.unwrap();
    assert_ne!(after.id, before.id);
    let same = |name: &str| before.files[name] == after.files[name];
    assert_eq!(["ca.crt", "server.crt", "server.key", "tls-crypt.key"].map(same), [true, false, false, true]);
}

async fn an_authority_that_has_ended_signs_nothing(database: Database) {
    let mut red = red(database).await;
    red.vpn().await;
    red.try_user("alice", None).await.unwrap();
    let beyond = told(red.try_user("bob", Some(3650)).await);
    assert_eq!(beyond, "done");
    red.cloud.pass(3000 * DAY);
    let beyond = told(red.try_user("carol", Some(3650)).await);
    assert!(
        beyond.starts_with("Invalid invalid: days: the certificate authority of project `red`'s VPN ends")
    );
    red.cloud.pass(-4000 * DAY);
    let early = told(red.try_user("carol", None).await);
    assert!(early.starts_with("Conflict clock_off: the controller's clock says 20"), "{early}");
    red.cloud.pass(4650 * DAY);
    let late = told(red.try_user("carol", None).await);
    assert!(late.starts_with("Conflict ca_expired: the certificate authority of project `red`'s VPN ended"));
    let before = red.identity(&red.host).await.unwrap();
    red.restart_until("vpn.user_expired").await;
    let renewed = red.cloud.app.renew_vpn_ca(&red.member, "red").await.unwrap();
    let void: Vec<&str> = renewed.void.iter().map(|name| name.as_str()).collect();
    assert_eq!(void, ["alice", "bob"]);
    let after = red.identity(&red.host).await.unwrap();
    assert!(before.files.iter().all(|(name, text)| after.files[name] != *text), "all keys are others");
    assert!(red.users().await.iter().all(|user| user.expired));
    let who = ("red", "alice");
    red.cloud.app.renew_vpn_user(&red.member, who, VpnUserRenewal::default()).await.unwrap();
    assert!(!red.users().await[0].expired);
}

async fn a_vpn_goes_where_the_gateway_goes(database: Database) {
    let mut red = red(database).await;
    let other = red.cloud.public_host("host2").await;
    let single = NewNetwork { multi_host: Some(false), ..owned("single", "10.2.0.0/24", "red") };
    red.cloud.make(single).await.unwrap();
    let new = NewVpn { network: Some("single".to_owned()), ..NewVpn::default() };
    let vpn = red.cloud.app.create_vpn(&red.member, new).await.unwrap();
    assert_eq!(vpn.host.unwrap(), red.host.name, "the host that is connected was chosen");
    // It may be dead when its time is over.
    red.agent = None;
    let set = async |host: &str| {
        let request = GatewayRequest { host: host.to_owned() };
        red.cloud.app.set_gateway(&Caller::Admin, "single", request).await
    };
    let away = told(set("host2").await);
    assert_eq!(
        away,
        "Conflict host_away: host `host2` is away: network `single` is in use and would have no gateway"
    );
    let _agent = red.cloud.agent(&other).await;
    assert_eq!(red.cloud.app.vpn(&red.member, "red").await.unwrap().host.unwrap(), red.host.name);
    assert_eq!(told(red.identity(&other).await), "NotFound not_found: no VPN on this host `red-vpn`");
    set("host2").await.unwrap();
    assert_eq!(red.cloud.app.vpn(&red.member, "red").await.unwrap().host.unwrap(), other.name);
    assert!(red.identity(&other).await.is_ok());
    assert_eq!(told(red.identity(&red.host).await), "NotFound not_found: no VPN on this host `red-vpn`");
    let floating = red.cloud.app.floating_ip(&red.member, "203.0.113.1").await.unwrap();
    assert_eq!(floating.host.unwrap(), other.name, "and so does what leads to it");
    let host = VpnPatch { host: Some("host1".to_owned()), ..VpnPatch::default() };
    let refused = told(red.cloud.app.patch_vpn(&Caller::Admin, "red", host).await);
    assert!(refused.contains("host `host2` routes for network `single`, so its VPN runs there"), "{refused}");
}

async fn keys_cannot_be_read_with_another_secret(database: Database) {
    let red = red(database).await;
    red.vpn().await;
    let path = red.cloud.config.state_dir.join("secret.key");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let missing = "Unavailable secret_key: the controller cannot use its secret key file";
    assert_eq!(told(red.try_user("alice", None).await), missing);
    std::fs::write(&path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let other =
        "Unavailable secret_key: the VPN's keys were encrypted with another key than the controller has now";
    assert_eq!(told(red.try_user("alice", None).await), other);
    assert_eq!(told(red.identity(&red.host).await), other);
    assert!(red.users().await.is_empty(), "nothing is half made");
    std::fs::write(&path, kept).unwrap();
    red.try_user("alice", None).await.unwrap();
}

async fn a_lost_secret_key_is_not_made_anew_beside_what_needs_it(database: Database) {
    let red = red(database).await;
    red.vpn().await;
    let path = red.cloud.config.state_dir.join("secret.key");
    std::fs::remove_file(&path).unwrap();
    let blue = red.cloud.project("blue").await;
    red.cloud.make(owned("bluenet", "10.1.0.0/24", "blue")).await.unwrap();
    let missing = "Unavailable secret_key: the controller cannot use its secret key file";
    assert_eq!(told(red.cloud.app.create_vpn(&blue, NewVpn::default()).await), missing);
    assert!(!path.exists());
    red.cloud.app.delete_vpn(&red.member, "red").await.unwrap();
    red.cloud.app.create_vpn(&blue, NewVpn::default()).await.unwrap();
    assert!(path.exists(), "nothing needs the one that is lost any more");
}

async fn a_revoked_user_s_address_goes_to_another(database: Database) {
    let red = red(database).await;
    red.vpn().await;
    let alice = red.try_user("alice", None).await.unwrap().user.address;
    red.try_user("bob", None).await.unwrap();
    red.cloud.app.revoke_vpn_user(&red.member, "red", "alice").await.unwrap();
    assert_eq!(red.cloud.addresses().await, "10.0.0.2 Allocated, 10.0.0.3 Free, 10.0.0.4 Allocated");
    let (address, page) = (alice.to_string(), PageQuery::default());
    let history = red.cloud.app.address_history(&red.member, &address, &Default::default(), &page).await;
    let history = history.unwrap().items;
    assert_eq!(history.len(), 1);
    assert!(history[0].until.is_some(), "it is kept who had it until when");
}
