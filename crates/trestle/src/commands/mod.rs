//! One file per noun: its arguments and its commands.

pub(crate) mod address;
pub(crate) mod address_group;
pub(crate) mod agent;
pub(crate) mod attach;
pub(crate) mod completions;
pub(crate) mod dns;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod fixed_ip;
pub(crate) mod floating_ip;
pub(crate) mod host;
pub(crate) mod inject;
pub(crate) mod instance;
pub(crate) mod lab;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod project;
pub(crate) mod security_group;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod vpn;

use std::cell::RefCell;
use std::collections::BTreeSet;

use trestle_api::client::Client;

use crate::args::{Cli, Command, GlobalArgs};
use crate::connection;
use crate::printer::{self, Printer};

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    let context = Context { global: cli.global, asked: RefCell::default() };
    match cli.command {
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
        Command::Lab(command) => lab::run(command, &context),
        Command::Server(args) => service_runtime()?.block_on(server::run(args)),
        Command::Agent(args) => service_runtime()?.block_on(agent::run(args, &context)),
        command => {
            let done = client_runtime()?.block_on(run_client(command, &context));
            // After the command's own words, and also where it failed half way.
            context.say_unconfirmed();
            done
        }
    }
}

async fn run_client(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Status(args) => status::run(&args, context).await,
        Command::Project(command) => project::run(command, context).await,
        Command::Host(command) => host::run(command, context).await,
        Command::Network(command) => network::run(command, context).await,
        Command::Instance(command) => instance::run(command, context).await,
        Command::FixedIp(command) => fixed_ip::run(command, context).await,
        Command::Pool(command) => pool::run(command, context).await,
        Command::FloatingIp(command) => floating_ip::run(command, context).await,
        Command::SecurityGroup(command) => security_group::run(command, context).await,
        Command::AddressGroup(command) => address_group::run(command, context).await,
        Command::Vpn(command) => vpn::run(command, context).await,
        Command::Dns(command) => dns::run(command, context).await,
        Command::Address(command) => address::run(command, context).await,
        Command::Token(command) => token::run(command, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Attach(args) => attach::attach(args).await,
        Command::Detach(args) => attach::detach(args, context).await,
        Command::Inject(args) => inject::run(args, context).await,
        Command::Plan(args) => plan::run(&args, context).await,
        Command::Doctor(args) => doctor::run(&args, context).await,
        // These need no runtime or another one, and `run` has dealt with them.
        Command::Server(_)
        | Command::Agent(_)
        | Command::Lab(_)
        | Command::Completions(_)
        | Command::Man(_) => Ok(()),
    }
}

/// What commands share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: GlobalArgs,
    /// Those that heard which hosts have not followed.
    asked: RefCell<Vec<Client>>,
}

impl Context {
    /// A client with the token of whoever types.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let client = connection::client(&self.global)?;
        self.asked.borrow_mut().push(client.clone());
        Ok(client)
    }

    /// Says which hosts have not confirmed what was done.
    fn say_unconfirmed(&self) {
        let hosts: BTreeSet<String> = self.asked.borrow().iter().flat_map(Client::take_unconfirmed).collect();
        let (has, agent) = match hosts.len() {
            0 => return,
            1 => ("has", "its agent is"),
            _ => ("have", "their agents are"),
        };
        printer::say(&format!(
            "{} {has} not confirmed it yet: what was before goes on there until {agent} back",
            printer::listed(hosts)
        ));
    }

    /// How output is printed.
    pub(crate) fn printer(&self) -> Printer {
        if self.global.json { Printer::Programs } else { Printer::People }
    }
}

/// A list that takes the place of what there was: none is given, or one that is empty for an empty
/// list.
fn replaced(values: Vec<String>) -> Option<Vec<String>> {
    match &values[..] {
        [] => None,
        [none] if none.is_empty() => Some(Vec::new()),
        _ => Some(values),
    }
}

fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn service_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
