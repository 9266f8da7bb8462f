//! What may be asked by whom, and what is said of what cannot be.

use std::os::unix::fs::PermissionsExt;

use crate::cloud::{Cloud, Database, flat_dhcp, project_id, told};
use sqlx::{Connection, SqliteConnection};
use trestle_api::agent::{Drift, Report};
use trestle_api::spec::Key;
use trestle_api::{
    EventFilter, FixedIpFilter, HostFilter, HostPatch, InstanceFilter, InterfaceState, NetworkFilter,
    NewInstance, NewInterface, NewNetwork, NewToken, PageQuery, PlugRequest, Role,
};
use trestle_controller::app::Caller;
use trestle_core::plan::{Problem, ProblemCode};

crate::on_both!(
    everything_that_is_wrong_with_a_network_is_listed,
    everything_that_is_wrong_with_an_instance_is_listed,
    names_and_macs_are_unique,
    what_is_used_is_not_deleted,
    a_member_sees_and_changes_its_own_project_only,
    an_agent_is_its_own_host_only,
    attaching_again_is_the_same_and_otherwise_refused,
    a_full_bridge_is_refused,
    a_second_network_on_one_uplink_is_refused,
    an_interface_is_ready_when_its_host_says_so,
    a_revoked_token_is_refused_at_once,
    lists_come_in_pages,
    events_tell_what_happened_in_order,
    an_instance_joins_the_networks_of_its_project_or_the_shared_ones,
);

fn new_network() -> NewNetwork {
    NewNetwork { bridge: None, ..flat_dhcp("n", "10.0.0.0/24", "") }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn everything_that_is_wrong_with_a_network_is_listed(database: Database) {
    let cloud = Cloud::start(database).await;
    let wrong = NewNetwork {
        name: "Bad Name".to_owned(),
        network_type: text("vxlan"),
        cidr: text("10.0.0.0/24"),
        gateway: text("10.0.1.1"),
        dhcp_start: text("10.0.0.255"),
        bridge: text("a-bridge-of-17-by"),
        bridge_interface: text("tr-0123456789ab"),
        dns: vec!["8.8.8.8".to_owned(), "dns".to_owned()],
        domain: text("a..b"),
        mtu: Some(100),
        ..NewNetwork::default()
    };
    let wrong = cloud.app.create_networks(&Caller::Admin, wrong).await;
    let bits = NewNetwork { cidr: text("10.0.0.5/24"), ..new_network() };
    let bits = cloud.app.create_networks(&Caller::Admin, bits).await;
    let unknown = NewNetwork { project: text("nobody"), bridge: text("br0"), ..new_network() };
    let unknown = cloud.app.create_networks(&Caller::Admin, unknown).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(wrong), @"
        Invalid invalid: 9 things are wrong with the request
          name: bad_name: `Bad Name` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
          type: unknown_type: `vxlan` is not a type of network; there are `vlan`, `flat_dhcp` and `flat`
          gateway: gateway_outside: the gateway 10.0.1.1 is not an address between the first and the last of 10.0.0.0/24
          dhcp_start: dhcp_start_outside: the DHCP start 10.0.0.255 is not an address between the first and the last of 10.0.0.0/24
          bridge: bad_link_name: `a-bridge-of-17-by` is not a device name: it has 17 bytes, the kernel takes 15
          bridge_interface: bad_link_name: `tr-0123456789ab` begins with `tr-`, which is kept for instances' devices
          dns[1]: bad_address: `dns` is not an IP address
          domain: bad_domain: `a..b` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
          mtu: bad_mtu: an MTU of 100 bytes is not possible: use 576 to 9216
        ");
        insta::assert_snapshot!(told(bits), @"
        Invalid invalid: 2 things are wrong with the request
          cidr: cidr_host_bits: `10.0.0.5/24` has host bits set; the network is 10.0.0.0/24
          bridge: no_bridge: a network of this type needs a bridge: name one here, or set the option flat_network_bridge
        ");
        insta::assert_snapshot!(told(unknown), @"NotFound not_found: no project `nobody`");
    }
}

async fn everything_that_is_wrong_with_an_instance_is_listed(database: Database) {
    let cloud = Cloud::start(database).await;
    let interface = NewInterface {
        network: String::new(),
        addresses: vec!["x".to_owned()],
        mac: text("01:00:5e:00:00:01"),
        ..NewInterface::default()
    };
    let wrong = NewInstance {
        name: String::new(),
        project: None,
        interfaces: Some(vec![interface]),
        ..Default::default()
    };
    let wrong = cloud.app.create_instance(&Caller::Admin, wrong).await;
    let id =
        NewInstance { name: "0190c3f2-7d5a-7cc1-8f43-0123456789ab".to_owned(), ..NewInstance::default() };
    let project = cloud.project("p").await;
    let id = cloud.app.create_instance(&project, id).await;
    let unknown = cloud.try_instance(&project, "a", "nowhere", None).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(wrong), @"
        Invalid invalid: 5 things are wrong with the request
          name: required: a name is needed
          project: required: an instance needs a project
          interfaces[0].network: required: an interface needs a network
          interfaces[0].addresses[0]: bad_address: `x` is not an IP address
          interfaces[0].mac: bad_mac: `01:00:5e:00:00:01` is not the MAC address of a station: write six bytes as fa:16:3e:00:00:01, the first one even
        ");
        insta::assert_snapshot!(told(id), @r"
        Invalid invalid: name: `0190c3f2-7d5a-7cc1-8f43-0123456789ab` reads as an id and cannot be a name
          name: bad_name: `0190c3f2-7d5a-7cc1-8f43-0123456789ab` reads as an id and cannot be a name
        ");
        insta::assert_snapshot!(told(unknown), @"NotFound not_found: no network `nowhere`");
    }
    assert_eq!(cloud.app.counts().await.unwrap().instances, 0, "nothing is half done");
}

async fn names_and_macs_are_unique(database: Database) {
    let cloud = Cloud::start(database).await;
    let (one, two) = (cloud.project("one").await, cloud.project("two").await);
    cloud.network("n", "10.0.0.0/24").await;
    cloud.network("m", "10.0.1.0/24").await;
    let instance = cloud.instance(&one, "web", "n").await;
    let with_mac = |mac: String| {
        let interface = NewInterface {
            network: "n".to_owned(),
            addresses: Vec::new(),
            mac: Some(mac),
            ..Default::default()
        };
        NewInstance {
            name: "other".to_owned(),
            project: None,
            interfaces: Some(vec![interface]),
            ..Default::default()
        }
    };
    let mac = cloud.app.create_instance(&one, with_mac(instance.interfaces[0].mac.to_string())).await;
    assert_eq!(mac.unwrap_err().error.code, "mac_taken");
    let again = NewInterface { network: "n".to_owned(), ..NewInterface::default() };
    let outcomes = [
        told(
            cloud
                .app
                .create_project(&Caller::Admin, trestle_api::NewProject { name: "one".to_owned() })
                .await,
        ),
        told(cloud.try_instance(&one, "web", "n", None).await),
        told(cloud.try_instance(&two, "web", "n", None).await),
        told(cloud.try_instance(&two, "web", "m", None).await),
        told(cloud.app.add_interface(&one, "web", None, again).await),
        told(cloud.try_network("n", "10.9.0.0/24", "br9").await),
        told(cloud.app.instance(&Caller::Admin, "web", None).await),
    ];
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n"), @"
        Conflict name_taken: there is a project `one` already
        Conflict name_taken: project `one` has an instance `web` already
        Conflict name_taken: network `n` has an interface of an instance called `web` already
        done
        Conflict duplicate_network: instance `web` has an interface on network `n` already
        Conflict name_taken: there is a network `n` already
          name: name_taken: there is a network `n` already
        Invalid invalid: project: several projects have an instance `web`: say which project
          project: required: several projects have an instance `web`: say which project
        ");
    }
    assert!(instance.interfaces[0].mac.to_string().starts_with("fa:16:3e:"));
}

async fn what_is_used_is_not_deleted(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    let admin = &Caller::Admin;
    let outcomes = [
        told(cloud.app.delete_project(admin, "p").await),
        told(cloud.app.delete_network(admin, "n").await),
        told(cloud.app.delete_host(admin, "h1").await),
    ];
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n"), @r"
        Conflict in_use: project `p` still owns instance `a`
        Conflict in_use: network `n` still has instance `a`
        Conflict in_use: host `h1` still has instance `a`
        ");
    }
    cloud.delete(&project, "a").await;
    cloud.app.delete_host(admin, "h1").await.unwrap();
    cloud.app.delete_network(admin, "n").await.unwrap();
    cloud.app.delete_project(admin, "p").await.unwrap();
}

async fn a_member_sees_and_changes_its_own_project_only(database: Database) {
    let cloud = Cloud::start(database).await;
    let (mine, theirs) = (cloud.project("mine").await, cloud.project("theirs").await);
    cloud.network("shared", "10.0.0.0/24").await;
    let private = NewNetwork {
        name: "private".to_owned(),
        cidr: text("10.1.0.0/24"),
        bridge: text("br-private"),
        project: text("theirs"),
        ..NewNetwork::default()
    };
    cloud.app.create_networks(&Caller::Admin, private).await.unwrap();
    let their = cloud.instance(&theirs, "secret", "private").await;
    cloud.instance(&mine, "web", "shared").await;
    let (app, page) = (&cloud.app, PageQuery::default());
    let id = their.id.to_string();
    let as_theirs =
        NewInstance { name: "x".to_owned(), project: text("theirs"), interfaces: None, ..Default::default() };
    let outcomes = [
        told(app.project(&mine, "theirs").await),
        told(app.instance(&mine, &id, None).await),
        told(app.instance(&mine, "secret", Some("theirs")).await),
        told(app.delete_instance(&mine, &id, None).await),
        told(app.network(&mine, "private").await),
        told(cloud.try_instance(&mine, "y", "private", None).await),
        told(app.create_instance(&mine, as_theirs).await),
        told(app.detach(&mine, &id, None, None).await),
        told(app.create_networks(&mine, new_network()).await),
        told(app.list_hosts(&mine, &HostFilter::default(), &page).await),
        told(app.list_tokens(&mine, &page).await),
        told(app.patch_host(&mine, "h", HostPatch::default()).await),
    ];
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n").replace(&id, "ID"), @r"
        NotFound not_found: no project `theirs`
        NotFound not_found: no instance `ID`
        NotFound not_found: no project `theirs`
        NotFound not_found: no instance `ID`
        NotFound not_found: no network `private`
        NotFound not_found: no network `private`
        NotFound not_found: no project `theirs`
        NotFound not_found: no instance `ID`
        Forbidden forbidden: making a network is for admins
        Forbidden forbidden: hosts are for admins to see
        Forbidden forbidden: listing tokens is for admins
        Forbidden forbidden: changing a host is for admins
        ");
    }
    let mut seen = Vec::new();
    let projects = app.list_projects(&mine, &page).await.unwrap().items;
    seen.extend(projects.iter().map(|project| project.name.to_string()));
    let networks = app.list_networks(&mine, &NetworkFilter::default(), &page).await.unwrap().items;
    seen.extend(networks.iter().map(|network| network.name.to_string()));
    let instances = app.list_instances(&mine, &InstanceFilter::default(), &page).await.unwrap().items;
    seen.extend(instances.iter().map(|instance| instance.name.to_string()));
    let fixed_ips = app.list_fixed_ips(&mine, &FixedIpFilter::default(), &page).await.unwrap().items;
    seen.extend(fixed_ips.iter().map(|ip| ip.address.to_string()));
    let events = app.list_events(&mine, &EventFilter::default(), &page).await.unwrap().items;
    assert!(events.iter().all(|event| event.project.as_ref().is_some_and(|name| name.as_str() == "mine")));
    assert_eq!(seen, ["mine", "shared", "web", "10.0.0.2"]);
}

async fn an_agent_is_its_own_host_only(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let (own, other) = (cloud.host("own").await, cloud.host("other").await);
    cloud.network("n", "10.0.0.0/24").await;
    let a = cloud.instance(&project, "a", "n").await;
    let b = cloud.instance(&project, "b", "n").await;
    cloud.attach(&b, &other).await;
    let (app, agent) = (&cloud.app, Caller::Agent(own.id));
    let request = |host: Option<&str>| trestle_api::AttachRequest {
        host: host.map(str::to_owned),
        network: None,
        plug: PlugRequest::default(),
    };
    let outcomes = [
        told(app.spec(&agent, "other", Default::default()).await),
        told(app.report(&agent, "other", Report::default()).await),
        told(app.attach(&agent, "a", None, request(Some("other"))).await),
        told(app.detach(&agent, "b", None, None).await),
        told(app.delete_instance(&agent, "a", None).await),
        told(app.report(&Caller::Admin, "own", Report::default()).await),
        told(app.attach(&agent, "a", None, request(None)).await),
        told(app.detach(&agent, "a", None, None).await),
    ];
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n"), @"
        NotFound not_found: no host `other`
        NotFound not_found: no host `other`
        NotFound not_found: no host `other`
        Conflict attached_elsewhere: instance `b` is plugged in on network `n` on host `other`
        Forbidden forbidden: deleting an instance is not for agents
        Forbidden forbidden: reporting is for the host's agent
        done
        done
        ");
    }
    assert_eq!(a.interfaces[0].state, InterfaceState::Detached);
}

async fn attaching_again_is_the_same_and_otherwise_refused(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let (host, other) = (cloud.host("h1").await, cloud.host("h2").await);
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    let never = told(cloud.app.detach(&project, "a", None, None).await);
    let attached = cloud.attach(&instance, &host).await;
    assert_eq!(cloud.attach(&instance, &host).await, attached);
    let veth = |netns: &str| PlugRequest::Veth { netns: netns.to_owned(), name: None };
    let outcomes = [
        never,
        told(cloud.try_attach(&instance, &other, PlugRequest::default()).await),
        told(cloud.try_attach(&instance, &host, veth("/run/netns/a")).await),
        told(cloud.try_attach(&instance, &host, veth("a b")).await),
    ];
    insta::allow_duplicates! {
        insta::assert_snapshot!(outcomes.join("\n"), @"
        Conflict not_attached: instance `a` was never plugged in on network `n`
        Conflict attached_elsewhere: instance `a` is plugged in on network `n` on host `h1`
        Conflict already_attached: instance `a` is plugged in on network `n` already, as a tap, not as eth0 in /run/netns/a
        Invalid invalid: plug.netns: `a b` is not a path to a network namespace, such as /run/netns/web1
          plug.netns: bad_path: `a b` is not a path to a network namespace, such as /run/netns/web1
        ");
    }
    let detached = cloud.app.detach(&project, "a", None, None).await.unwrap();
    assert_eq!(cloud.app.detach(&project, "a", None, None).await.unwrap(), detached);
    cloud.try_attach(&instance, &other, veth("/run/netns/a")).await.unwrap();
}

async fn a_full_bridge_is_refused(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    let patch = HostPatch { flat_interface: text("eth1"), ..HostPatch::default() };
    cloud.app.patch_host(&Caller::Admin, "h1", patch).await.unwrap();
    cloud.network("n", "10.0.0.0/21").await;
    for i in 0..1022 {
        let instance = cloud.instance(&project, &format!("i{i}"), "n").await;
        cloud.attach(&instance, &host).await;
    }
    let last = cloud.instance(&project, "last", "n").await;
    let refused = cloud.try_attach(&last, &host, PlugRequest::default()).await;
    assert_eq!(
        told(refused),
        "Conflict bridge_full: bridge `br-n` on host `h1` is full: Linux gives a bridge 1023 ports"
    );
}

async fn a_second_network_on_one_uplink_is_refused(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    let patch = HostPatch { flat_interface: text("eth1"), ..HostPatch::default() };
    cloud.app.patch_host(&Caller::Admin, "h1", patch).await.unwrap();
    cloud.network("n", "10.0.0.0/24").await;
    cloud.network("m", "10.0.1.0/24").await;
    let (first, second) =
        (cloud.instance(&project, "a", "n").await, cloud.instance(&project, "b", "m").await);
    cloud.attach(&first, &host).await;
    let refused = cloud.try_attach(&second, &host, PlugRequest::default()).await;
    assert_eq!(told(refused), "Conflict interface_taken: on host `h1` eth1 is in the bridge of network `n`");
    cloud.app.detach(&project, "a", None, None).await.unwrap();
    cloud.attach(&second, &host).await;
}

async fn an_interface_is_ready_when_its_host_says_so(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    let state = async || cloud.app.instance(&project, "a", None).await.unwrap().interfaces[0].state;
    assert_eq!(state().await, InterfaceState::Detached);
    let attached = cloud.attach(&instance, &host).await;
    assert_eq!(state().await, InterfaceState::Pending);
    let problem = Problem {
        key: Key::Link(attached.device.clone()),
        code: ProblemCode::BridgeFull,
        detail: "the bridge is full".to_owned(),
    };
    cloud.report(&host, attached.generation, [problem]).await;
    assert_eq!(state().await, InterfaceState::Failed);
    cloud.report(&host, attached.generation, []).await;
    assert_eq!(state().await, InterfaceState::Ready);
    let counts = cloud.app.counts().await.unwrap();
    assert_eq!((counts.interfaces_ready, counts.hosts_connected, counts.problems), (1, 1, 0));
}

async fn a_revoked_token_is_refused_at_once(database: Database) {
    let mut cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let file = cloud.config.admin_token_path();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let admin = std::fs::read_to_string(&file).unwrap();
    assert_eq!(cloud.app.authenticate(admin.trim()).await.unwrap(), Caller::Admin);
    let new = NewToken { role: Role::Member, project: text("p"), host: None, description: String::new() };
    let made = cloud.app.create_token(&Caller::Admin, new).await.unwrap();
    let member = cloud.app.authenticate(&made.secret).await.unwrap();
    assert_eq!(member, Caller::Member(project_id(&project)));
    cloud.app.delete_token(&Caller::Admin, &made.token.id.to_string()).await.unwrap();
    let refused = cloud.app.authenticate(&made.secret).await;
    assert_eq!(told(refused), "Unauthorized unauthorized: the token is not one of this controller's");
    cloud.restart().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), admin, "a restart makes no other admin token");
    let wrong = NewToken { role: Role::Agent, project: text("p"), host: None, description: String::new() };
    let wrong = cloud.app.create_token(&Caller::Admin, wrong).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(wrong), @r"
        Invalid invalid: 2 things are wrong with the request
          project: not_allowed: a token of this role is for no project
          host: required: a token of this role is for one host
        ");
    }
}

async fn lists_come_in_pages(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/24").await;
    for i in 0..5 {
        cloud.instance(&project, &format!("i{i}"), "n").await;
    }
    let mut page = PageQuery { limit: Some(2), after: None };
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let filter = InstanceFilter { network: text("n"), ..InstanceFilter::default() };
        let answer = cloud.app.list_instances(&project, &filter, &page).await.unwrap();
        names.extend(answer.items.iter().map(|instance| instance.name.to_string()));
        pages += 1;
        page.after = answer.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!((names.join(" ").as_str(), pages), ("i0 i1 i2 i3 i4", 3));
    let query = PageQuery { limit: Some(3), after: text("10.0.0.3") };
    let ips = cloud.app.list_fixed_ips(&project, &FixedIpFilter::default(), &query).await.unwrap();
    let ips: Vec<String> = ips.items.iter().map(|ip| ip.address.to_string()).collect();
    assert_eq!(ips, ["10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    let wrong = PageQuery { limit: Some(0), after: None };
    assert_eq!(cloud.app.list_projects(&project, &wrong).await.unwrap_err().error.code, "invalid");
}

async fn events_tell_what_happened_in_order(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    let drift =
        Drift { repaired: vec!["add link br-n".to_owned()], culprit: text("ip (pid 7)"), took_ms: 12 };
    let report = Report { drift: vec![drift], ..Report::default() };
    cloud.app.report(&Caller::Agent(host.id), "h1", report).await.unwrap();
    cloud.delete(&project, "a").await;
    let events = cloud.app.events_after(&Caller::Admin, &EventFilter::default(), 2).await.unwrap();
    assert!(events.is_sorted_by_key(|event| event.id));
    let lines: Vec<String> =
        events.iter().map(|event| format!("{}: {}", event.kind, event.message)).collect();
    insta::allow_duplicates! {
        insta::assert_snapshot!(lines.join("\n"), @"
        project.created: project `p` was made
        security_group.created: security group `default` was made in project `p`
        host.created: host `h1` was made known
        network.created: network `n` was made with 10.0.0.0/24
        instance.created: instance `a` was made in project `p`
        interface.created: instance `a` got 10.0.0.2 on network `n`
        interface.attached: instance `a` is plugged in on host `h1`
        host.drift: ip (pid 7) changed the host; repaired in 12 ms: add link br-n
        interface.deleted: instance `a` left network `n`
        instance.deleted: instance `a` of project `p` was deleted
        ");
    }
    let of_hosts = EventFilter { kind: text("host"), host: text("h1"), ..EventFilter::default() };
    let of_hosts =
        cloud.app.list_events(&Caller::Admin, &of_hosts, &PageQuery::default()).await.unwrap().items;
    assert_eq!(
        of_hosts.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["host.created", "host.drift"]
    );
}

async fn an_instance_joins_the_networks_of_its_project_or_the_shared_ones(database: Database) {
    let cloud = Cloud::start(database).await;
    let (one, two) = (cloud.project("one").await, cloud.project("two").await);
    let new = |name: &str| NewInstance {
        name: name.to_owned(),
        project: None,
        interfaces: None,
        ..Default::default()
    };
    let none = cloud.app.create_instance(&one, new("early")).await;
    assert_eq!(none.unwrap_err().error.code, "no_free_network");
    cloud.network("shared", "10.0.0.0/24").await;
    let own = NewNetwork { name: "own".to_owned(), cidr: text("10.1.0.0/24"), ..new_network() };
    let own = NewNetwork { bridge: text("br-own"), project: text("one"), ..own };
    cloud.app.create_networks(&Caller::Admin, own).await.unwrap();
    let mut joined = Vec::new();
    for project in [&one, &two] {
        let instance = cloud.app.create_instance(project, new("a")).await.unwrap();
        joined.extend(instance.interfaces.into_iter().map(|interface| interface.network.to_string()));
    }
    assert_eq!(joined, ["own", "shared"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_said_plainly_and_it_goes_on() {
    let cloud = Cloud::start(Database::Sqlite).await;
    let mut other = SqliteConnection::connect(&cloud.url()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let new = |name: &str| trestle_api::NewProject { name: name.to_owned() };
    let locked = cloud.app.create_project(&Caller::Admin, new("p")).await;
    assert_eq!(
        told(locked),
        "Unavailable database_locked: the controller's database is held by another program"
    );
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    cloud.app.create_project(&Caller::Admin, new("p")).await.unwrap();
    cloud.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_plainly_and_it_goes_on() {
    let cloud = Cloud::start(Database::Postgres).await;
    let url = cloud.url();
    let name = url.rsplit('/').next().unwrap();
    crate::cloud::postgres::execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    crate::cloud::postgres::execute(&end).await;
    let new = |name: &str| trestle_api::NewProject { name: name.to_owned() };
    let away = cloud.app.create_project(&Caller::Admin, new("p")).await;
    assert_eq!(told(away), "Unavailable database_unavailable: the controller cannot reach its database");
    crate::cloud::postgres::execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    cloud.app.create_project(&Caller::Admin, new("p")).await.unwrap();
    cloud.settle().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut config = trestle_controller::config::ControllerConfig::in_state_dir(folder.path());
    let mut messages = Vec::new();
    for url in ["postgres://trestle:secret@127.0.0.1:1/trestle", "mysql://x"] {
        config.database = Some(url.to_owned());
        let Err(error) = trestle_controller::app::App::open(&config).await else {
            panic!("{url} was opened")
        };
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        messages.push(causes.take(2).map(ToString::to_string).collect::<Vec<_>>().join(": "));
    }
    insta::assert_snapshot!(messages.join("\n"), @r"
    cannot use the database postgres://trestle:…@127.0.0.1:1/trestle: cannot connect to it
    cannot use the database mysql://x: neither `sqlite:<path>` nor `postgres://…`
    ");
}
