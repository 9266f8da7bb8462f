//! A controller without a front, on either database, with a clock that tests set.

pub mod postgres;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::types::ProjectId;
use trestle_api::{
    AttachRequest, Attached, FixedIp, FixedIpFilter, FloatingIp, FloatingIpAssociation, Host, Instance,
    MovePhase, MoveRequest, Network, NewFloatingIp, NewHost, NewInstance, NewInterface, NewNetwork, NewPool,
    NewPortForward, NewProject, PageQuery, PlugRequest, Pool,
};
use trestle_controller::app::{App, Caller, Clock};
use trestle_controller::config::ControllerConfig;
use trestle_controller::error::AppError;
use trestle_core::plan::Problem;
use trestle_core::spec::{HostSpec, SpecUpdate};

/// Which database.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// Makes a test on each database out of an async function that takes one.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() { super::$test($crate::cloud::Database::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() { super::$test($crate::cloud::Database::Postgres).await; })*
        }
    };
}

/// A clock that stands until it is set on.
pub struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub struct Cloud {
    pub app: App,
    pub config: ControllerConfig,
    pub clock: Arc<SetClock>,
    _folder: TempDir,
}

impl Cloud {
    pub async fn start(database: Database) -> Self {
        Self::start_with(database, |_| {}).await
    }

    pub async fn start_with(database: Database, set: impl FnOnce(&mut ControllerConfig)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = ControllerConfig::in_state_dir(folder.path().join("state"));
        if let Database::Postgres = database {
            config.database = Some(postgres::new_database().await);
        }
        set(&mut config);
        let clock = Arc::new(SetClock(AtomicI64::new(1_800_000_000_000_000)));
        let app = App::open_with(&config, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        Self { app, config, clock, _folder: folder }
    }

    /// Ends the controller and starts it again on the same database.
    pub async fn restart(&mut self) {
        self.app.close().await;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        self.app = App::open_with(&self.config, clock).await.unwrap();
    }

    /// The database's URL, for tests that speak to it behind the controller's back.
    pub fn url(&self) -> String {
        let sqlite = || format!("sqlite://{}", self.config.state_dir.join("trestle.db").display());
        self.config.database.clone().unwrap_or_else(sqlite)
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    pub async fn project(&self, name: &str) -> Caller {
        let new = NewProject { name: name.to_owned() };
        Caller::Member(self.app.create_project(&Caller::Admin, new).await.unwrap().id)
    }

    pub async fn host(&self, name: &str) -> Host {
        let new = NewHost { name: name.to_owned(), ..NewHost::default() };
        self.app.create_host(&Caller::Admin, new).await.unwrap()
    }

    /// A host whose public interface is `eth0`.
    pub async fn public_host(&self, name: &str) -> Host {
        let public_interface = Some("eth0".to_owned());
        let new = NewHost { name: name.to_owned(), public_interface, ..NewHost::default() };
        self.app.create_host(&Caller::Admin, new).await.unwrap()
    }

    pub async fn pool(&self, name: &str, range: &str) -> Pool {
        self.try_pool(name, &[range]).await.unwrap()
    }

    pub async fn try_pool(&self, name: &str, ranges: &[&str]) -> Result<Pool, AppError> {
        let ranges = ranges.iter().map(|range| (*range).to_owned()).collect();
        let new = NewPool { name: name.to_owned(), interface: None, ranges };
        self.app.create_pool(&Caller::Admin, new).await
    }

    pub async fn reserve(&self, project: &Caller) -> String {
        let new = NewFloatingIp::default();
        self.app.reserve_floating_ip(project, new).await.unwrap().address.to_string()
    }

    pub async fn associate(&self, address: &str, instance: &str) -> FloatingIp {
        self.try_associate(address, instance, false).await.unwrap()
    }

    pub async fn try_associate(
        &self,
        address: &str,
        instance: &str,
        r#move: bool,
    ) -> Result<FloatingIp, AppError> {
        let request = FloatingIpAssociation { instance: instance.to_owned(), fixed_ip: None, r#move };
        self.app.associate_floating_ip(&Caller::Admin, address, request).await
    }

    pub async fn forward(&self, address: &str, port: u32, instance: &str) -> Result<FloatingIp, AppError> {
        let (protocol, instance) = ("tcp".to_owned(), instance.to_owned());
        let new = NewPortForward { protocol, port, instance, ..NewPortForward::default() };
        self.app.forward_port(&Caller::Admin, address, new).await
    }

    pub async fn network(&self, name: &str, cidr: &str) -> Network {
        self.try_network(name, cidr, &format!("br-{name}")).await.unwrap()
    }

    pub async fn try_network(&self, name: &str, cidr: &str, bridge: &str) -> Result<Network, AppError> {
        self.make(flat_dhcp(name, cidr, bridge)).await
    }

    /// Makes one network.
    pub async fn make(&self, new: NewNetwork) -> Result<Network, AppError> {
        let made = self.app.create_networks(&Caller::Admin, new).await?;
        Ok(made.items.into_iter().next().unwrap())
    }

    pub async fn instance(&self, project: &Caller, name: &str, network: &str) -> Instance {
        self.try_instance(project, name, network, None).await.unwrap()
    }

    pub async fn try_instance(
        &self,
        project: &Caller,
        name: &str,
        network: &str,
        address: Option<&str>,
    ) -> Result<Instance, AppError> {
        let addresses = address.into_iter().map(str::to_owned).collect();
        let interface =
            NewInterface { network: network.to_owned(), addresses, mac: None, ..Default::default() };
        let new = NewInstance {
            name: name.to_owned(),
            project: None,
            interfaces: Some(vec![interface]),
            ..Default::default()
        };
        self.app.create_instance(project, new).await
    }

    pub async fn delete(&self, project: &Caller, name: &str) {
        self.app.delete_instance(project, name, None).await.unwrap();
    }

    pub async fn attach(&self, instance: &Instance, host: &Host) -> Attached {
        self.try_attach(instance, host, PlugRequest::default()).await.unwrap()
    }

    pub async fn try_attach(
        &self,
        instance: &Instance,
        host: &Host,
        plug: PlugRequest,
    ) -> Result<Attached, AppError> {
        let request = AttachRequest { host: Some(host.name.to_string()), network: None, plug };
        self.app.attach(&Caller::Admin, &instance.id.to_string(), None, request).await
    }

    /// The host says that it has worked through this generation, which it was told of before.
    pub async fn report(&self, host: &Host, generation: u64, problems: impl IntoIterator<Item = Problem>) {
        self.settle().await;
        let problems: BTreeSet<Problem> = problems.into_iter().collect();
        let report = Report { generation, problems, ..Report::default() };
        self.app.report(&Caller::Agent(host.id), host.name.as_str(), report).await.unwrap();
    }

    /// What an agent that holds this generation is told, if anything within 30 seconds.
    pub async fn poll(&self, host: &Host, since: Option<u64>) -> SpecUpdate {
        let query = SpecQuery { since, wait: Some(30) };
        let update = self.app.spec(&Caller::Agent(host.id), host.name.as_str(), query).await;
        update.unwrap().expect("there is a change within 30 seconds")
    }

    /// An agent that is connected and does at once whatever it is told, until the guard is dropped.
    pub async fn agent(&self, host: &Host) -> Agent {
        let (app, id, name) = (self.app.clone(), host.id, host.name.to_string());
        app.spec(&Caller::Agent(id), &name, SpecQuery::default()).await.unwrap();
        let obeying = async move {
            let mut query = SpecQuery { since: None, wait: Some(30) };
            loop {
                let told = app.spec(&Caller::Agent(id), &name, query.clone()).await.unwrap();
                let Some(update) = told else { continue };
                query.since = Some(update.generation);
                let report = Report { generation: update.generation, ..Report::default() };
                app.report(&Caller::Agent(id), &name, report).await.unwrap();
            }
        };
        Agent(tokio::spawn(obeying).abort_handle())
    }

    /// Moves an instance to a host, both of whose agents obey.
    pub async fn shift(&self, instance: &str, host: &Host, phase: MovePhase) {
        let request = MoveRequest { host: Some(host.name.to_string()), phase, plug: None };
        self.app.move_instance(&Caller::Admin, instance, None, request).await.unwrap();
    }

    /// Everything an agent without anything is told.
    pub async fn whole(&self, host: &Host) -> HostSpec {
        let query = SpecQuery::default();
        let update = self.app.spec(&Caller::Admin, host.name.as_str(), query).await.unwrap().unwrap();
        assert_eq!(update.base, None);
        HostSpec { generation: update.generation, objects: update.put, ..HostSpec::default() }
    }

    /// Waits until the controller has taken its own revision in.
    pub async fn settle(&self) {
        let revision = self.app.counts().await.unwrap().revision;
        let mut taken_in = self.app.subscribe();
        let settled = taken_in.wait_for(|taken_in| *taken_in >= revision);
        tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap().unwrap();
    }

    pub async fn fixed_ips(&self) -> Vec<FixedIp> {
        let page = PageQuery { limit: Some(1000), after: None };
        self.app.list_fixed_ips(&Caller::Admin, &FixedIpFilter::default(), &page).await.unwrap().items
    }

    /// Every fixed IP as a line of `address state`.
    pub async fn addresses(&self) -> String {
        let lines = self.fixed_ips().await;
        let lines: Vec<String> = lines.iter().map(|ip| format!("{} {:?}", ip.address, ip.state)).collect();
        lines.join(", ")
    }
}

/// An agent of [`Cloud::agent`].
pub struct Agent(tokio::task::AbortHandle);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A Flat DHCP network of all hosts, shared.
pub fn flat_dhcp(name: &str, cidr: &str, bridge: &str) -> NewNetwork {
    NewNetwork {
        name: name.to_owned(),
        network_type: Some("flat_dhcp".to_owned()),
        cidr: Some(cidr.to_owned()),
        bridge: Some(bridge.to_owned()),
        ..NewNetwork::default()
    }
}

pub fn address(instance: &Instance) -> String {
    instance.interfaces[0].addresses[0].to_string()
}

pub fn project_id(caller: &Caller) -> ProjectId {
    match caller {
        Caller::Member(id) => *id,
        _ => panic!("not a member"),
    }
}

/// An error as its code and sentence, and every problem.
pub fn told<T>(result: Result<T, AppError>) -> String {
    let Err(AppError { kind, error, .. }) = result else { return "done".to_owned() };
    let problems = error.problems.iter().map(|p| format!("\n  {}: {}: {}", p.field, p.code, p.message));
    format!("{kind:?} {}: {}{}", error.code, error.message, problems.collect::<String>())
}

pub const TIMEOUT: SignedDuration = SignedDuration::from_secs(600);
