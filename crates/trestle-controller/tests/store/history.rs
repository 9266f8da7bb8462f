//! Who had an address when.

use trestle_api::{HeldAs, HistoryFilter, Holding, MovePhase, PageQuery};
use trestle_controller::app::Caller;

use crate::cloud::{Cloud, Database};

crate::on_both!(
    an_address_has_a_history_of_who_had_it_where_and_when,
    a_floating_ip_has_a_history_of_where_it_led,
    a_member_sees_when_its_project_had_it,
    what_is_too_old_is_forgotten,
);

async fn history(cloud: &Cloud, caller: &Caller, address: &str, at: Option<String>) -> Vec<Holding> {
    let filter = HistoryFilter { at };
    cloud.app.address_history(caller, address, &filter, &PageQuery::default()).await.unwrap().items
}

/// The oldest first, one a line, times as seconds since the first.
async fn told(cloud: &Cloud, address: &str) -> String {
    let mut all = history(cloud, &Caller::Admin, address, None).await;
    all.reverse();
    let first = all[0].since;
    let line = |holding: Holding| {
        let held_as = match holding.held_as {
            HeldAs::FixedIp => "fixed_ip",
            HeldAs::FloatingIp => "floating_ip",
            HeldAs::PortForward => "port_forward",
            HeldAs::Reserved => "reserved",
        };
        let seconds = |time: jiff::Timestamp| time.duration_since(first).as_secs();
        let until = holding.until.map_or("now".to_owned(), |until| seconds(until).to_string());
        let instance = holding.instance.map_or("nobody".to_owned(), |name| name.to_string());
        assert_eq!(holding.mac.is_none(), instance == "nobody");
        let host = holding.host.map_or("nowhere".to_owned(), |name| name.to_string());
        let (project, since) = (holding.project, seconds(holding.since));
        format!("{since} to {until}: {held_as} of {project}, {instance}, {host}")
    };
    all.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn an_address_has_a_history_of_who_had_it_where_and_when(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let hosts = [cloud.host("h1").await, cloud.host("h2").await];
    let _agents = [cloud.agent(&hosts[0]).await, cloud.agent(&hosts[1]).await];
    cloud.network("n", "10.0.0.0/30").await;
    let first = cloud.instance(&project, "first", "n").await;
    cloud.pass(1);
    cloud.attach(&first, &hosts[0]).await;
    cloud.attach(&first, &hosts[0]).await;
    cloud.pass(1);
    cloud.shift("first", &hosts[1], MovePhase::Prepare).await;
    cloud.pass(1);
    cloud.shift("first", &hosts[1], MovePhase::Switch).await;
    cloud.pass(1);
    cloud.delete(&project, "first").await;
    cloud.pass(1);
    cloud.instance(&project, "second", "n").await;
    let told = told(&cloud, "10.0.0.2").await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told, @"
        0 to 1: fixed_ip of p, first, nowhere
        1 to 3: fixed_ip of p, first, h1
        3 to 4: fixed_ip of p, first, h2
        5 to now: fixed_ip of p, second, nowhere
        ");
    }
    let then =
        |seconds: i64| Some(jiff::Timestamp::from_second(1_800_000_000 + seconds).unwrap().to_string());
    let mut hosts = Vec::new();
    for seconds in -1..6 {
        let had = history(&cloud, &Caller::Admin, "10.0.0.2", then(seconds)).await;
        hosts.push(
            had.first().map(|holding| holding.host.as_ref().map_or("-".to_owned(), |name| name.to_string())),
        );
    }
    let hosts: Vec<Option<&str>> = hosts.iter().map(Option::as_deref).collect();
    assert_eq!(hosts, [None, Some("-"), Some("h1"), Some("h1"), Some("h2"), None, Some("-")]);
    assert_eq!(history(&cloud, &Caller::Admin, "192.0.2.1", None).await, []);
}

async fn a_floating_ip_has_a_history_of_where_it_led(database: Database) {
    let cloud = Cloud::start(database).await;
    let project = cloud.project("p").await;
    let host = cloud.public_host("h1").await;
    cloud.network("n", "10.0.0.0/24").await;
    cloud.pool("ext", "203.0.113.0/30").await;
    let a = cloud.instance(&project, "a", "n").await;
    cloud.instance(&project, "b", "n").await;
    let address = cloud.reserve(&project).await;
    cloud.pass(1);
    cloud.associate(&address, "a").await;
    cloud.pass(1);
    cloud.attach(&a, &host).await;
    cloud.pass(1);
    cloud.forward(&address, 80, "b").await.unwrap();
    cloud.forward(&address, 443, "b").await.unwrap();
    cloud.pass(1);
    cloud.try_associate(&address, "b", true).await.unwrap();
    cloud.pass(1);
    cloud.delete(&project, "b").await;
    cloud.pass(1);
    cloud.app.release_floating_ip(&project, &address).await.unwrap();
    let told = told(&cloud, &address).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(told, @"
        0 to 1: reserved of p, nobody, nowhere
        1 to 2: floating_ip of p, a, nowhere
        2 to 4: floating_ip of p, a, h1
        3 to 5: port_forward of p, b, nowhere
        4 to 5: floating_ip of p, b, nowhere
        5 to 6: reserved of p, nobody, nowhere
        ");
    }
}

async fn a_member_sees_when_its_project_had_it(database: Database) {
    let cloud = Cloud::start(database).await;
    let (red, blue) = (cloud.project("red").await, cloud.project("blue").await);
    cloud.network("n", "10.0.0.0/30").await;
    for (project, name) in [(red, "one"), (blue, "two")] {
        cloud.instance(&project, name, "n").await;
        cloud.pass(1);
        cloud.delete(&project, name).await;
    }
    let names = async |caller: &Caller| {
        let held = history(&cloud, caller, "10.0.0.2", None).await;
        held.into_iter().map(|holding| holding.instance.unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&Caller::Admin).await, ["two", "one"], "the newest first");
    assert_eq!((names(&red).await, names(&blue).await), (vec!["one".to_owned()], vec!["two".to_owned()]));
}

async fn what_is_too_old_is_forgotten(database: Database) {
    let mut cloud = Cloud::start_with(database, |config| config.address_history_days = 2).await;
    let project = cloud.project("p").await;
    cloud.network("n", "10.0.0.0/30").await;
    for name in ["first", "second", "third"] {
        cloud.instance(&project, name, "n").await;
        if name != "third" {
            cloud.delete(&project, name).await;
        }
        cloud.pass(24 * 3600);
    }
    cloud.pass(1);
    // It is swept when the controller starts, too.
    cloud.restart().await;
    let left = async {
        loop {
            let held = history(&cloud, &Caller::Admin, "10.0.0.2", None).await;
            if held.len() < 3 {
                return held;
            }
            tokio::task::yield_now().await;
        }
    };
    let left = tokio::time::timeout(std::time::Duration::from_secs(20), left).await.unwrap();
    let names: Vec<String> = left.into_iter().map(|holding| holding.instance.unwrap().to_string()).collect();
    assert_eq!(names, ["third"], "what lasts stays however old it is");
}
