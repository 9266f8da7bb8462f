//! `trestle dns`

use clap::{Args, Subcommand};
use trestle_api::client::Client;
use trestle_api::{DnsDomain, DnsRecord, DnsRecordFilter, DnsRecordRequest, NewDnsDomain, Page};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation, Printer};

/// Names for addresses, beside those that instances have by themselves
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    #[command(subcommand)]
    Domain(DomainCommand),
    #[command(subcommand)]
    Record(RecordCommand),
}

/// Domains hold names
#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// Make a domain
    #[command(after_help = "Example: trestle dns domain create example.org --project alpha")]
    Create {
        /// Its name, such as example.org
        name: String,
        /// The project that owns it: only on its networks it is known [default: a member's own;
        /// else it is known on all]
        #[arg(long)]
        project: Option<String>,
    },
    /// List domains
    #[command(after_help = "Example: trestle dns domain list")]
    List,
    /// Delete a domain with all names in it
    #[command(after_help = "Example: trestle dns domain delete example.org --yes")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Records are names in a domain
#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Make a name, or give it other addresses in place of those it has
    ///
    /// Who asks for one of its addresses is told the name.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        #[command(flatten)]
        record: RecordArg,
        /// An address that it leads to: a fixed or floating IP of the domain's project, or any,
        /// where an administrator asks; may be repeated
        #[arg(long = "address", value_name = "ADDRESS", required = true)]
        addresses: Vec<String>,
    },
    /// List names and their addresses
    #[command(after_help = "Example: trestle dns record list --address 203.0.113.20")]
    List {
        /// Only those in this domain
        #[arg(long)]
        domain: Option<String>,
        /// Only those that lead to this address
        #[arg(long)]
        address: Option<String>,
    },
    /// Show a name and its addresses
    #[command(after_help = "Example: trestle dns record show www --domain example.org")]
    Show(RecordArg),
    /// Delete a name
    #[command(after_help = "Example: trestle dns record delete www --domain example.org")]
    Delete(RecordArg),
}

const SET_EXAMPLES: &str = "\
Examples:
  trestle dns record set www --domain example.org --address 203.0.113.20
  trestle dns record set db --domain example.org --address 10.0.0.9 --address fd00::9";

/// One name in a domain.
#[derive(Debug, Args)]
pub(crate) struct RecordArg {
    /// The name without its domain: one or several labels
    name: String,
    /// Its domain
    #[arg(long)]
    domain: String,
}

pub(crate) async fn run(command: DnsCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        DnsCommand::Domain(command) => run_domain(command, &client, printer).await,
        DnsCommand::Record(command) => run_record(command, &client, printer).await,
    }
}

async fn run_domain(command: DomainCommand, client: &Client, printer: Printer) -> anyhow::Result<()> {
    match command {
        DomainCommand::Create { name, project } => {
            let domain = client.create_dns_domain(&NewDnsDomain { name, project }).await?;
            printer.done(&domain, &format!("created domain {} ({})", domain.name, known(&domain)))
        }
        DomainCommand::List => {
            let page = every_page(async |page| client.list_dns_domains(&page).await).await?;
            printer.show(&page, |page| domain_list(&page.items))
        }
        DomainCommand::Delete { name, confirmation } => {
            let thing = format!("domain {name} with all names in it");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_dns_domain(&name).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

async fn run_record(command: RecordCommand, client: &Client, printer: Printer) -> anyhow::Result<()> {
    match command {
        RecordCommand::Set { record: RecordArg { name, domain }, addresses } => {
            let record = client.put_dns_record(&domain, &name, &DnsRecordRequest { addresses }).await?;
            let addresses = printer::listed(&record.addresses);
            printer.done(&record, &format!("{} leads to {addresses}", whole_name(&record)))
        }
        RecordCommand::List { domain, address } => {
            let filter = DnsRecordFilter { address };
            let page = records(client, domain, &filter).await?;
            printer.show(&page, |page| record_list(&page.items))
        }
        RecordCommand::Show(RecordArg { name, domain }) => {
            printer.show(&client.dns_record(&domain, &name).await?, show)
        }
        RecordCommand::Delete(RecordArg { name, domain }) => {
            client.delete_dns_record(&domain, &name).await?;
            printer::say(&format!("deleted {name}.{domain}"));
            Ok(())
        }
    }
}

/// The names in a domain, or in all of them.
async fn records(
    client: &Client,
    domain: Option<String>,
    filter: &DnsRecordFilter,
) -> anyhow::Result<Page<DnsRecord>> {
    let domains = match domain {
        Some(domain) => vec![domain],
        None => {
            let page = every_page(async |page| client.list_dns_domains(&page).await).await?;
            page.items.into_iter().map(|domain| domain.name.to_string()).collect()
        }
    };
    let mut all = Page { items: Vec::new(), next: None };
    for domain in domains {
        let page = every_page(async |page| client.list_dns_records(&domain, filter, &page).await).await?;
        all.items.extend(page.items);
    }
    Ok(all)
}

fn known(domain: &DnsDomain) -> String {
    match &domain.project {
        Some(project) => format!("known on the networks of project {project}"),
        None => "known on all networks".to_owned(),
    }
}

fn whole_name(record: &DnsRecord) -> String {
    format!("{}.{}", record.name, record.domain)
}

fn domain_list(domains: &[DnsDomain]) -> String {
    let row = |domain: &DnsDomain| {
        let project = domain.project.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string);
        vec![domain.name.to_string(), project, printer::time(domain.created_at)]
    };
    printer::table(&["DOMAIN", "PROJECT", "CREATED"], domains.iter().map(row))
}

fn record_list(records: &[DnsRecord]) -> String {
    let row = |record: &DnsRecord| {
        vec![record.name.to_string(), record.domain.to_string(), printer::listed(&record.addresses)]
    };
    printer::table(&["NAME", "DOMAIN", "ADDRESSES"], records.iter().map(row))
}

fn show(record: &DnsRecord) -> String {
    printer::fields(&[
        ("name", record.name.to_string()),
        ("domain", record.domain.to_string()),
        ("addresses", printer::listed(&record.addresses)),
    ])
}
