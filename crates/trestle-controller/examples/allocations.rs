//! Measures durable allocations: how many instances a second a controller makes, each with an
//! address, in one transaction each. `allocations [database URL]`, SQLite in a temporary folder
//! by default.

use std::time::{Duration, Instant};

use trestle_api::{NewInstance, NewInterface, NewNetwork, NewProject};
use trestle_controller::app::{App, Caller};
use trestle_controller::config::ControllerConfig;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("trestle-allocations-{}", std::process::id()));
    let mut config = ControllerConfig::in_state_dir(&folder);
    config.database = std::env::args().nth(1);
    let app = App::open(&config).await?;
    let run = uuid::Uuid::now_v7().simple().to_string();
    let project = NewProject { name: format!("p{}", &run[20..]) };
    let member = Caller::Member(app.create_project(&Caller::Admin, project).await?.id);
    let network = NewNetwork {
        name: format!("n{}", &run[20..]),
        network_type: Some("flat_dhcp".to_owned()),
        cidr: Some("10.0.0.0/8".to_owned()),
        bridge: Some("br100".to_owned()),
        ..NewNetwork::default()
    };
    let networks = app.create_networks(&Caller::Admin, network).await?.items;
    let network = networks.first().map(|network| network.name.to_string()).unwrap_or_default();
    for (clients, each) in [(1, 2000), (8, 1000), (8, 1000)] {
        measure(&app, &member, &network, (clients, each)).await?;
    }
    app.close().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

async fn measure(
    app: &App,
    member: &Caller,
    network: &str,
    (clients, each): (usize, usize),
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (app, member, network) = (app.clone(), *member, network.to_owned());
        let round = uuid::Uuid::now_v7().simple().to_string();
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::with_capacity(each);
            for i in 0..each {
                let interface = NewInterface { network: network.clone(), ..NewInterface::default() };
                let name = format!("i{}-{client}-{i}", &round[20..]);
                let new = NewInstance {
                    name,
                    project: None,
                    interfaces: Some(vec![interface]),
                    ..Default::default()
                };
                let begun = Instant::now();
                app.create_instance(&member, new).await?;
                took.push(begun.elapsed());
            }
            Ok::<_, Failure>(took)
        }));
    }
    let mut took: Vec<Duration> = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    took.sort();
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{clients} clients: {rate:.0} allocations/s, p50 {p50:?}, p99 {p99:?}");
    Ok(())
}
