//! A lab: the universe with the topology, the controller and the agents in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trestle_api::client::{Client, ClientConfig};
use trestle_api::{Attached, NewHost, NewProject, NewSecurityGroupRule, NewToken, Role};

use crate::asking::Asking;
use crate::daemon::Daemon;
use crate::guest;
use crate::process::{Process, succeeded, tail};
use crate::running::{Running, make_folder, write_secret};
use crate::topology::{HostNode, Node, Topology};
use crate::universe::Universe;
use crate::wait::until;

/// Answers in `outside` for the internet's names, of which there is one: [`crate::INTERNET_NAME`].
const NAME_SERVER: [&str; 10] = [
    "dnsmasq",
    "--no-daemon",
    "--conf-file=/dev/null",
    "--pid-file=",
    "--user=root",
    "--no-hosts",
    "--no-resolv",
    "--bind-interfaces",
    "--listen-address=198.51.100.10",
    "--address=/example.org/198.51.100.10",
];

/// A kernel with br_netfilter built in hands what is bridged to iptables; Debian's does so only where
/// the module was loaded for that. A lab's hosts are like Debian's.
const UNFILTERED_BRIDGES: &str = "for kind in iptables ip6tables; do
    file=/proc/sys/net/bridge/bridge-nf-call-$kind
    if [ -e $file ]; then echo 0 >$file; fi
done";

/// The programs that a lab runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The `trestle` program.
    pub trestle: PathBuf,
}

/// What the guest's side of an interface is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plug<'a> {
    /// A tap that root alone may open.
    Tap,
    /// A tap that this user may open.
    TapOf {
        /// A user name or a numeric uid.
        user: &'a str,
    },
    /// The far end of a veth, as `eth0` in a network namespace.
    Netns {
        /// The namespace's name.
        name: &'a str,
    },
}

/// A running lab; nothing of it is left when it is dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: programs first, then the universe around them.
    agents: BTreeMap<String, Daemon>,
    controller: Daemon,
    /// The name server of the lab's internet.
    names: Option<Process>,
    pub(crate) running: Running,
    asking: Asking,
    universe: Universe,
}

impl Lab {
    /// Makes the namespaces and starts everything: when it returns, the controller answers and
    /// every host's agent is connected to it.
    ///
    /// # Errors
    /// Whatever step fails, with the end of the logs concerned; nothing is left behind.
    pub fn up(topology: &Topology, programs: &Programs) -> Result<Self> {
        let mut lab = Self::bare(topology, programs)?;
        lab.names = Some(lab.spawn("outside", &NAME_SERVER)?);
        let started = lab.start(topology);
        started.map_err(|error| error.context(format!("starting the lab `{}`", topology.name)))?;
        Ok(lab)
    }

    /// Makes the folder, the universe and its network, and starts neither the controller nor the
    /// agents: see [`Self::controller`] and [`Self::agent`].
    ///
    /// # Errors
    /// Whatever step fails; nothing is left behind.
    pub fn bare(topology: &Topology, programs: &Programs) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "a lab needs root, to make network namespaces");
        let base = topology.base.clone().unwrap_or_else(Running::base);
        let hosts = topology.hosts.iter().map(|host| host.name.as_str());
        let parts: Vec<&str> = ["logs", "controller"].into_iter().chain(hosts).collect();
        let folder = make_folder(&base, &topology.name, &parts)?;
        let universe = Universe::start(&programs.trestle, &folder, topology.keep_folder)?;
        let running = Running {
            name: topology.name.clone(),
            state_dir: folder.join("controller"),
            trestle: programs.trestle.clone(),
            hosts: topology.hosts.iter().map(|host| host.name.clone()).collect(),
            entrance: universe.entrance(),
            is_in_machine: false,
            folder,
        };
        running.write()?;
        guest::write_scripts(&running.folder)?;
        if let Some(config) = topology.server_config() {
            std::fs::write(server_config(&running), config)
                .context("writing the controller's configuration")?;
        }
        let agents = topology.hosts.iter().map(|host| (host.name.clone(), agent(&running, host, topology)));
        let lab = Self {
            agents: agents.collect(),
            controller: controller(&running, topology),
            names: None,
            running,
            asking: Asking::new()?,
            universe,
        };
        for (node, commands) in topology.commands() {
            let node = node.as_deref().map_or(Node::Controller, Node::Named);
            lab.running.entrance.ip_batch(node, &commands)?;
        }
        for host in &topology.hosts {
            lab.exec_ok(&host.name, &["sh", "-ec", UNFILTERED_BRIDGES])?;
        }
        Ok(lab)
    }

    /// The lab's folder.
    pub fn folder(&self) -> &Path {
        &self.running.folder
    }

    /// What another process needs to know of this lab.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Whether it was ended from elsewhere, by `trestle lab down` for instance.
    pub fn has_ended(&self) -> bool {
        self.universe.has_ended()
    }

    /// Returns on Ctrl-C, on SIGTERM, and when the lab was ended from elsewhere.
    ///
    /// # Errors
    /// Where signals cannot be listened for.
    pub fn wait_for_end(&self) -> Result<()> {
        /// How late it may be seen that the lab was ended from elsewhere.
        const LOOK: Duration = Duration::from_millis(200);
        let interrupts = self.asking.interrupts()?;
        while interrupts.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && !self.has_ended() {}
        Ok(())
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    /// Where the controller has not written that token.
    pub fn client(&self) -> Result<Client> {
        let path = self.running.state_dir.join("admin.token");
        let token = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        self.client_with(token.trim())
    }

    /// A client with another token.
    ///
    /// # Errors
    /// Where no header can hold the token.
    pub fn client_with(&self, token: &str) -> Result<Client> {
        let url = format!("unix:{}", self.controller.socket().display());
        let config = ClientConfig { url, token: Some(token.to_owned()), ca_cert: None };
        Client::new(config).context("making an API client")
    }

    /// Asks the API from code that blocks: `lab.ask(client.host("host1"))`.
    ///
    /// # Errors
    /// The future's own.
    pub fn ask<T: Send, E>(&self, future: impl Future<Output = Result<T, E>> + Send) -> Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Ok(self.asking.wait(future)??)
    }

    /// Makes a project whose instances are reached by everybody: its default security group lets in what
    /// any other would have to be asked for.
    ///
    /// # Errors
    /// Where the controller refuses.
    pub fn open_project(&self, name: &str) -> Result<()> {
        let client = self.client()?;
        self.ask(client.create_project(&NewProject { name: name.to_owned() }))?;
        let all = NewSecurityGroupRule { direction: "ingress".to_owned(), ..NewSecurityGroupRule::default() };
        self.ask(client.add_security_group_rule("default", Some(name), &all)).map(drop)
    }

    /// Runs `trestle` as a user of this machine would, from outside of the lab.
    ///
    /// # Errors
    /// Where it cannot be started; its own failure is in the answer.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.running.trestle);
        self.running.point(&mut command, Node::Controller);
        command.args(arguments).stdin(Stdio::null());
        command.output().with_context(|| format!("starting trestle {}", arguments.join(" ")))
    }

    /// As [`Self::cli`], and what it printed; a failure is an error with what it said.
    ///
    /// # Errors
    /// Where it cannot be started or fails.
    pub fn cli_ok(&self, arguments: &[&str]) -> Result<String> {
        succeeded(self.cli(arguments)?, || format!("trestle {}", arguments.join(" ")))
    }

    /// Runs a command on a node: `lab.exec("host1", &["ip", "-j", "address"])`.
    ///
    /// # Errors
    /// Where it cannot be started; its own failure is in the answer.
    pub fn exec<'a>(&self, node: impl Into<Node<'a>>, argv: &[&str]) -> Result<Output> {
        let node = node.into();
        let mut command = self.running.command(node, argv);
        let output = command.stdin(Stdio::null()).output();
        output.with_context(|| format!("running {} on {node}", argv.join(" ")))
    }

    /// As [`Self::exec`], and what it printed; a failure is an error with what it said.
    ///
    /// # Errors
    /// Where it cannot be started or fails.
    pub fn exec_ok<'a>(&self, node: impl Into<Node<'a>>, argv: &[&str]) -> Result<String> {
        self.running.ask(node, argv)
    }

    /// Starts a command on a node and lets it run; what it prints is in its log.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn spawn<'a>(&self, node: impl Into<Node<'a>>, argv: &[&str]) -> Result<Process> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let node = node.into();
        let name = argv.first().and_then(|path| path.rsplit('/').next()).unwrap_or("nothing");
        let log = format!("{node}-{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let command = self.running.command(node, argv);
        Process::start(format!("{name} on {node}"), command, &self.running.log(&log))
    }

    /// The agent of a host.
    ///
    /// # Errors
    /// Where there is no such host.
    pub fn agent(&self, host: &str) -> Result<&Daemon> {
        self.agents.get(host).with_context(|| format!("the lab has no host `{host}`"))
    }

    /// The controller.
    pub fn controller(&self) -> &Daemon {
        &self.controller
    }

    /// Plugs an instance in on a host with `trestle attach` there; returns when the device is
    /// ready.
    ///
    /// # Errors
    /// What the command says.
    pub fn attach(&self, host: &str, instance: &str, network: &str, plug: Plug<'_>) -> Result<Attached> {
        let mut arguments = vec!["attach", instance, "--network", network, "--json"];
        match plug {
            Plug::Tap => {}
            Plug::TapOf { user } => arguments.extend(["--user", user]),
            Plug::Netns { name } => arguments.extend(["--netns", name]),
        }
        let text = self.on_host(host, &arguments)?;
        serde_json::from_str(&text).with_context(|| format!("reading the answer of trestle attach: {text}"))
    }

    /// Unplugs an instance with `trestle detach` on its host.
    ///
    /// # Errors
    /// What the command says.
    pub fn detach(&self, host: &str, instance: &str, network: &str) -> Result<()> {
        self.on_host(host, &["detach", instance, "--network", network]).map(drop)
    }

    /// Runs `trestle` on a host, beside its agent.
    ///
    /// # Errors
    /// What the command says.
    pub fn on_host(&self, host: &str, arguments: &[&str]) -> Result<String> {
        let trestle = self.running.trestle.to_string_lossy();
        let socket = self.agent(host)?.socket().to_string_lossy();
        let mut argv = vec![&*trestle];
        argv.extend(arguments);
        argv.extend(["--agent-socket", &*socket]);
        self.exec_ok(host, &argv)
    }

    /// The last lines of the logs of the controller, the agents and the guests.
    pub fn logs(&self) -> String {
        let folder = self.running.folder.join("logs");
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().map(|path| tail(path, 15)).collect::<Vec<_>>().join("\n")
    }

    fn start(&self, topology: &Topology) -> Result<()> {
        self.controller.start()?;
        let client = self.client()?;
        for host in &topology.hosts {
            self.register(&client, host)?;
            self.agent(&host.name)?.start()?;
        }
        for host in &topology.hosts {
            self.wait_until_connected(&client, &host.name)?;
        }
        Ok(())
    }

    fn register(&self, client: &Client, host: &HostNode) -> Result<()> {
        let new = NewHost {
            name: host.name.clone(),
            flat_interface: Some("eth1".into()),
            vlan_interface: Some("eth2".into()),
            public_interface: Some("eth0".into()),
            ..NewHost::default()
        };
        self.ask(client.create_host(&new)).with_context(|| format!("making {} known", host.name))?;
        let token = NewToken {
            role: Role::Agent,
            project: None,
            host: Some(host.name.clone()),
            description: "the lab".into(),
        };
        let token = self.ask(client.create_token(&token)).context("making an agent's token")?;
        let path = self.token_file(&host.name);
        write_secret(&path, token.secret.as_bytes())
    }

    fn wait_until_connected(&self, client: &Client, host: &str) -> Result<()> {
        until(&format!("the agent of {host} connects"), Duration::from_secs(60), || {
            let status = self.ask(client.host(host))?.status;
            Ok(status.connected.then_some(()))
        })
        .with_context(|| self.agent(host).map_or(String::new(), |agent| tail(agent.log(), 15)))
    }

    fn token_file(&self, host: &str) -> PathBuf {
        token_file(&self.running, host)
    }
}

fn token_file(running: &Running, host: &str) -> PathBuf {
    running.folder.join(format!("{host}.token"))
}

fn controller(running: &Running, topology: &Topology) -> Daemon {
    let state_dir = running.state_dir.display().to_string();
    let mut argv = vec![running.trestle.display().to_string(), "server".into()];
    argv.extend(["--state-dir".into(), state_dir]);
    if !topology.server_options.is_empty() {
        argv.extend(["--config".into(), server_config(running).display().to_string()]);
    }
    argv.extend(topology.server_arguments.iter().cloned());
    Daemon {
        question: "GET /healthz HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n",
        ..daemon(running, "controller", argv, running.state_dir.join("trestle.sock"))
    }
}

fn server_config(running: &Running) -> PathBuf {
    running.folder.join("server.toml")
}

fn agent(running: &Running, host: &HostNode, topology: &Topology) -> Daemon {
    let state_dir = running.agent_dir(&host.name);
    let mut argv = vec![running.trestle.display().to_string(), "agent".into()];
    let controller = format!("unix:{}", running.state_dir.join("trestle.sock").display());
    let token_file = token_file(running, &host.name).display().to_string();
    argv.extend(["--host".into(), host.name.clone(), "--controller".into(), controller]);
    argv.extend(["--token-file".into(), token_file]);
    argv.extend(["--state-dir".into(), state_dir.display().to_string()]);
    argv.extend(topology.agent_arguments.iter().cloned());
    Daemon {
        netns: Some(host.name.clone()),
        ..daemon(running, &host.name, argv, state_dir.join("agent.sock"))
    }
}

fn daemon(running: &Running, name: &str, argv: Vec<String>, socket: PathBuf) -> Daemon {
    Daemon {
        name: name.to_owned(),
        entrance: running.entrance,
        netns: None,
        argv,
        socket,
        question: "",
        log: running.log(name),
        process: Mutex::new(None),
    }
}
