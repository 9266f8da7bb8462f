//! Instances created per second through the REST API, each with its address: durable when the
//! answer arrives.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use trestle_api::ClientError;
use trestle_lab::{Lab, Topology, until};

use crate::attach::{DEADLINE, new_instance};
use crate::cloud;

const PER_CLIENT: usize = 500;

pub(crate) fn run() -> Result<()> {
    println!("\n### instances created per second, with their addresses\n");
    println!("| database | clients | per second | p50 ms | p99 ms |\n|---|---|---|---|---|");
    let lab = cloud(&Topology::for_test(1))?;
    for clients in [1, 8] {
        measure(&lab, "SQLite", clients)?;
    }
    drop(lab);
    let postgres = Postgres::start()?;
    let mut topology = Topology::for_test(1);
    topology.server_arguments = vec!["--database".into(), postgres.url()];
    let lab = cloud(&topology)?;
    for clients in [1, 8] {
        measure(&lab, "PostgreSQL", clients)?;
    }
    Ok(())
}

fn measure(lab: &Lab, database: &str, clients: usize) -> Result<()> {
    let client = lab.client()?;
    let started = Instant::now();
    let times = lab.ask(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..clients {
            let client = client.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for turn in 0..PER_CLIENT {
                    let called = Instant::now();
                    client.create_instance(&new_instance(&format!("a{clients}-{number}-{turn}"))).await?;
                    times.push(called.elapsed());
                }
                Ok::<_, ClientError>(times)
            });
        }
        let mut all = Vec::new();
        for times in tasks.join_all().await {
            all.extend(times?);
        }
        Ok::<Vec<Duration>, ClientError>(all)
    })?;
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let times = crate::times::Times::new(times);
    println!(
        "| {database} | {clients} | {rate:.0} | {:.2} | {:.2} |",
        times.percentile(50),
        times.percentile(99)
    );
    Ok(())
}

/// A PostgreSQL of Debian's package in a folder of its own; it refuses to run as root.
struct Postgres {
    server: Child,
    folder: TempDir,
}

impl Postgres {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_string_lossy().into_owned();
        let bin = std::fs::read_dir("/usr/lib/postgresql")?
            .flatten()
            .next()
            .context("no PostgreSQL is installed")?;
        let program = |name: &str| bin.path().join("bin").join(name).to_string_lossy().into_owned();
        let chown = Command::new("chown").args(["postgres", &path]).status()?;
        ensure!(chown.success(), "chown: {chown}");
        let as_postgres = |argv: &[&str]| {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).args(argv).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null());
            command
        };
        let data = format!("{path}/data");
        let init =
            as_postgres(&[&program("initdb"), "-D", &data, "-A", "trust", "-U", "trestle"]).status()?;
        ensure!(init.success(), "initdb: {init}");
        let postgres = program("postgres");
        let argv = [&*postgres, "-D", &data, "-k", &path, "-c", "listen_addresses="];
        let server = as_postgres(&argv).spawn().context("starting postgres")?;
        let socket = folder.path().join(".s.PGSQL.5432");
        until("PostgreSQL listens", DEADLINE, || Ok(socket.exists().then_some(())))?;
        Ok(Self { server, folder })
    }

    fn url(&self) -> String {
        format!("postgres://trestle@localhost/postgres?host={}", self.folder.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // runuser passes the signal on; SIGINT is PostgreSQL's fast shutdown.
        if let Ok(pid) = i32::try_from(self.server.id()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.server.wait();
    }
}
