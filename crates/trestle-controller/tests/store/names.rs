//! Names in DNS: who may give which, where they are known, and when they go.

use crate::cloud::{Cloud, Database, told};
use trestle_api::{DnsRecordFilter, DnsRecordRequest, Host, NewDnsDomain, NewFloatingIp, PageQuery};
use trestle_controller::app::Caller;
use trestle_controller::error::AppError;

crate::on_both!(
    a_name_is_known_on_its_project_s_networks_and_one_of_all_on_all,
    the_same_name_again_changes_nothing_and_others_replace_it,
    names_go_with_the_last_of_their_addresses,
    a_domain_takes_its_names_with_it,
);

async fn domain(cloud: &Cloud, caller: &Caller, name: &str, project: Option<&str>) -> Result<(), AppError> {
    let new = NewDnsDomain { name: name.to_owned(), project: project.map(str::to_owned) };
    cloud.app.create_dns_domain(caller, new).await.map(drop)
}

async fn put(cloud: &Cloud, caller: &Caller, name: (&str, &str), addresses: &[&str]) -> Result<(), AppError> {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    cloud.app.put_dns_record(caller, name, DnsRecordRequest { addresses }).await.map(drop)
}

/// The names of a domain, each with its addresses.
async fn names(cloud: &Cloud, domain: &str) -> Vec<String> {
    let page = PageQuery::default();
    let names = cloud.app.list_dns_records(&Caller::Admin, domain, &DnsRecordFilter::default(), &page).await;
    let line = |name: trestle_api::DnsRecord| format!("{} {:?}", name.name, name.addresses);
    names.unwrap().items.into_iter().map(line).collect()
}

async fn records_on(cloud: &Cloud, host: &Host) -> Vec<String> {
    cloud.settle().await;
    let keys = cloud.whole(host).await.objects.into_keys().map(|key| key.to_string());
    keys.filter(|key| key.starts_with("dns-record/")).collect()
}

async fn a_name_is_known_on_its_project_s_networks_and_one_of_all_on_all(database: Database) {
    let cloud = Cloud::start(database).await;
    let (red, blue) = (cloud.project("red").await, cloud.project("blue").await);
    let host = cloud.host("h1").await;
    for (project, caller, cidr) in [("red", &red, "10.1.0.0/24"), ("blue", &blue, "10.2.0.0/24")] {
        let mut network = crate::cloud::flat_dhcp(project, cidr, &format!("br-{project}"));
        network.project = Some(project.to_owned());
        cloud.make(network).await.unwrap();
        let instance = cloud.instance(caller, project, project).await;
        cloud.attach(&instance, &host).await;
    }
    domain(&cloud, &Caller::Admin, "all.example", None).await.unwrap();
    domain(&cloud, &red, "red.example", None).await.unwrap();
    put(&cloud, &Caller::Admin, ("all.example", "www"), &["192.0.2.1"]).await.unwrap();
    put(&cloud, &red, ("red.example", "db"), &["10.1.0.2"]).await.unwrap();
    let expected = [
        "dns-record/blue/www.all.example",
        "dns-record/red/db.red.example",
        "dns-record/red/www.all.example",
    ];
    assert_eq!(records_on(&cloud, &host).await, expected);

    let foreign = put(&cloud, &red, ("red.example", "db"), &["10.1.0.2", "10.2.0.2", "192.0.2.1"]).await;
    let of_all = put(&cloud, &red, ("all.example", "mine"), &["10.1.0.2"]).await;
    let unseen = put(&cloud, &blue, ("red.example", "db"), &["10.2.0.2"]).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(foreign), @"
        Invalid invalid: 2 things are wrong with the request
          addresses[1]: not_held: 10.2.0.2 is neither a fixed nor a floating IP of the project
          addresses[2]: not_held: 192.0.2.1 is neither a fixed nor a floating IP of the project
        ");
        insta::assert_snapshot!(told(of_all), @"Forbidden forbidden: changing a domain that is known to all is for admins");
        insta::assert_snapshot!(told(unseen), @"NotFound not_found: no domain `red.example`");
    }
    assert_eq!(names(&cloud, "red.example").await, ["db [10.1.0.2]"], "nothing was changed");
    put(&cloud, &Caller::Admin, ("red.example", "other"), &["10.2.0.2"]).await.unwrap();
}

async fn the_same_name_again_changes_nothing_and_others_replace_it(database: Database) {
    let cloud = Cloud::start(database).await;
    domain(&cloud, &Caller::Admin, "example.org", None).await.unwrap();
    let again = domain(&cloud, &Caller::Admin, "example.org", None).await;
    let wrong = put(&cloud, &Caller::Admin, ("example.org", "a..b"), &["10.0.0.1", "x", ""]).await;
    let labels = vec!["a"; 125].join(".");
    let long = put(&cloud, &Caller::Admin, ("example.org", &labels), &["10.0.0.1"]).await;
    let none = put(&cloud, &Caller::Admin, ("example.org", "www"), &[]).await;
    let unknown = put(&cloud, &Caller::Admin, ("example.com", "www"), &["10.0.0.1"]).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told(again), @"Conflict name_taken: there is a domain `example.org` already");
        insta::assert_snapshot!(told(wrong), @"
        Invalid invalid: 3 things are wrong with the request
          name: bad_domain: `a..b` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
          addresses[1]: bad_address: `x` is not an IP address
          addresses[2]: bad_address: `` is not an IP address
        ");
        insta::assert_snapshot!(told(long).replace(&labels, "[125 labels]"), @"
        Invalid invalid: name: `[125 labels].example.org` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
          name: bad_domain: `[125 labels].example.org` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
        ");
        insta::assert_snapshot!(told(none), @"
        Invalid invalid: addresses: a name needs an address
          addresses: required: a name needs an address
        ");
        insta::assert_snapshot!(told(unknown), @"NotFound not_found: no domain `example.com`");
    }
    domain(&cloud, &Caller::Admin, "b.example.org", None).await.unwrap();
    put(&cloud, &Caller::Admin, ("b.example.org", "a"), &["10.0.0.9"]).await.unwrap();
    let same = put(&cloud, &Caller::Admin, ("example.org", "a.b"), &["10.0.0.9"]).await;
    assert_eq!(told(same), "Conflict name_taken: there is a name `a.b.example.org` already");
    let revision = async || cloud.app.counts().await.unwrap().revision;
    put(&cloud, &Caller::Admin, ("example.org", "www"), &["10.0.0.2", "10.0.0.1"]).await.unwrap();
    let before = revision().await;
    put(&cloud, &Caller::Admin, ("example.org", "www"), &["10.0.0.1", "10.0.0.2", "10.0.0.1"]).await.unwrap();
    assert_eq!(revision().await, before);
    put(&cloud, &Caller::Admin, ("example.org", "www"), &["2001:db8::1"]).await.unwrap();
    assert_eq!(names(&cloud, "example.org").await, ["www [2001:db8::1]"]);
    cloud.app.delete_dns_record(&Caller::Admin, "example.org", "www").await.unwrap();
    let gone = cloud.app.delete_dns_record(&Caller::Admin, "example.org", "www").await;
    assert_eq!(told(gone), "NotFound not_found: no name `www.example.org`");
}

async fn names_go_with_the_last_of_their_addresses(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/24").await;
    cloud.pool("ext", "203.0.113.0/30").await;
    cloud.instance(&project, "a", "n").await;
    cloud.instance(&project, "b", "n").await;
    let address = cloud.reserve(&project).await;
    domain(&cloud, &project, "p.example", None).await.unwrap();
    put(&cloud, &project, ("p.example", "both"), &["10.0.0.2", &address]).await.unwrap();
    put(&cloud, &project, ("p.example", "fixed"), &["10.0.0.2", "10.0.0.3"]).await.unwrap();
    put(&cloud, &project, ("p.example", "floating"), &[&address]).await.unwrap();
    cloud.delete(&project, "a").await;
    let left = ["both [203.0.113.1]", "fixed [10.0.0.3]", "floating [203.0.113.1]"];
    assert_eq!(names(&cloud, "p.example").await, left);
    cloud.app.release_floating_ip(&project, &address).await.unwrap();
    assert_eq!(names(&cloud, "p.example").await, ["fixed [10.0.0.3]"]);
    let other = NewFloatingIp { address: Some(address.clone()), ..NewFloatingIp::default() };
    cloud.app.reserve_floating_ip(&project, other).await.unwrap();
    assert_eq!(names(&cloud, "p.example").await, ["fixed [10.0.0.3]"], "it does not come back");
}

async fn a_domain_takes_its_names_with_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    let instance = cloud.instance(&project, "a", "n").await;
    cloud.attach(&instance, &host).await;
    domain(&cloud, &Caller::Admin, "example.org", None).await.unwrap();
    for name in ["a", "b.c"] {
        put(&cloud, &Caller::Admin, ("example.org", name), &["10.0.0.2"]).await.unwrap();
    }
    assert_eq!(records_on(&cloud, &host).await.len(), 2);
    cloud.app.delete_dns_domain(&Caller::Admin, "example.org").await.unwrap();
    assert_eq!(records_on(&cloud, &host).await, [""; 0]);
    let gone = cloud.app.delete_dns_domain(&Caller::Admin, "example.org").await;
    assert_eq!(told(gone), "NotFound not_found: no domain `example.org`");
}
