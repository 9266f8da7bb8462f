//! `trestle pool`

use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::Ipv6Subnets;
use trestle_api::client::Client;
use trestle_api::types::AddressRange;
use trestle_api::{NewPool, Pool, PoolRangeRequest};

use super::Context;
use super::network::MORE_THAN_TOLD;
use crate::connection::every_page;
use crate::printer::{self, Confirmation, Printer};

/// Pools are public addresses that projects reserve floating IPs of
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Make a pool
    ///
    /// Its addresses must be routed to the network that the device is on, or lie in it. No network
    /// and no other pool has one of them.
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        /// The device that its addresses are on, on every host [default: the host's
        /// public_interface]
        #[arg(long, value_name = "DEVICE")]
        interface: Option<String>,
        /// Its addresses: FIRST-LAST, one, or a CIDR, of which the first and the last IPv4 address
        /// are left out; may be repeated
        #[arg(long = "range", value_name = "RANGE")]
        ranges: Vec<String>,
    },
    /// List pools
    #[command(after_help = "Example: trestle pool list")]
    List,
    /// Show a pool and how many of its addresses are reserved
    #[command(after_help = "Example: trestle pool show public")]
    Show(PoolArg),
    /// Add addresses to a pool
    #[command(after_help = "Example: trestle pool add-range public 203.0.113.128/27")]
    AddRange(RangeArgs),
    /// Take addresses of which none is reserved out of a pool
    #[command(after_help = "Example: trestle pool remove-range public 203.0.113.128/27")]
    RemoveRange(RangeArgs),
    /// Delete a pool of which nothing is reserved any more
    #[command(after_help = "Example: trestle pool delete public --yes")]
    Delete {
        #[command(flatten)]
        pool: PoolArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

const CREATE_EXAMPLES: &str = "\
Examples:
  trestle pool create public --range 203.0.113.20-203.0.113.99
  trestle pool create transit --interface eth3 --range 198.51.100.0/26 --range 2001:db8:7::/64";

/// One pool.
#[derive(Debug, Args)]
pub(crate) struct PoolArg {
    /// Its name or id
    pool: String,
}

/// Some addresses of a pool.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    #[command(flatten)]
    pool: PoolArg,
    /// Which: FIRST-LAST, one address, or a CIDR, of which the first and the last IPv4 address are
    /// left out
    range: String,
}

pub(crate) async fn run(command: PoolCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        PoolCommand::Create { name, interface, ranges } => {
            let pool = client.create_pool(&NewPool { name, interface, ranges }).await?;
            printer.done(&pool, &format!("created pool {} ({})", pool.name, particulars(&pool)))
        }
        PoolCommand::List => {
            let page = every_page(async |page| client.list_pools(&page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        PoolCommand::Show(arg) => printer.show(&client.pool(&arg.pool).await?, show),
        PoolCommand::AddRange(args) => add_range(&client, printer, args).await,
        PoolCommand::RemoveRange(args) => remove_range(&client, printer, args).await,
        PoolCommand::Delete { pool: PoolArg { pool }, confirmation } => {
            let thing = format!("pool {pool}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_pool(&pool).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

async fn add_range(client: &Client, printer: Printer, args: RangeArgs) -> anyhow::Result<()> {
    let RangeArgs { pool: PoolArg { pool }, range } = args;
    let before = client.pool(&pool).await?;
    let request = PoolRangeRequest { range };
    let after = client.add_pool_range(&pool, &request).await?;
    let (range, name) = (request.range, &after.name);
    let text = match before.ranges == after.ranges {
        true => format!("pool {name} has {range} already"),
        false => format!("added {range} to pool {name}, which has {} now", addresses(&after)),
    };
    printer.done(&after, &text)
}

async fn remove_range(client: &Client, printer: Printer, args: RangeArgs) -> anyhow::Result<()> {
    let RangeArgs { pool: PoolArg { pool }, range } = args;
    let before = client.pool(&pool).await?;
    let request = PoolRangeRequest { range };
    let after = client.remove_pool_range(&pool, &request).await?;
    let (range, name) = (request.range, &after.name);
    let text = match before.ranges == after.ranges {
        true => format!("pool {name} has no range {range}"),
        false => format!("took {range} out of pool {name}, which has {} now", addresses(&after)),
    };
    printer.done(&after, &text)
}

/// What tells a pool from others.
fn particulars(pool: &Pool) -> String {
    let ranges = if pool.ranges.is_empty() { "no addresses yet".to_owned() } else { ranges(pool) };
    match &pool.interface {
        Some(device) => format!("{ranges}; on {device}"),
        None => format!("{ranges}; on each host's public interface"),
    }
}

/// In a line; of many the rest is counted only.
fn ranges(pool: &Pool) -> String {
    let ranges: Vec<String> = pool.ranges.iter().copied().map(range).collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    if ranges.is_empty() { "-".to_owned() } else { printer::runs(&ranges, |_, _| false) }
}

/// A range as it is told easiest: of IPv6 as a CIDR where it is one. It can be given like that too;
/// one of IPv4 would lose its first and last address.
fn range(range: AddressRange) -> String {
    if let (IpAddr::V6(first), IpAddr::V6(last)) = (range.first(), range.last())
        && first != last
    {
        let mut cidrs = Ipv6Subnets::new(first, last, 0);
        if let (Some(cidr), None) = (cidrs.next(), cidrs.next()) {
            return cidr.to_string();
        }
    }
    range.to_string()
}

fn interface(pool: &Pool) -> String {
    pool.interface.as_ref().map_or_else(|| "(public)".to_owned(), ToString::to_string)
}

/// How many addresses it has, in a sentence.
fn addresses(pool: &Pool) -> String {
    match pool.total {
        MORE_THAN_TOLD => format!("{} addresses", total(pool)),
        number => printer::counted(number, "address"),
    }
}

/// How many addresses it has; of very many a few more or less tell nobody anything.
fn total(pool: &Pool) -> String {
    match pool.total {
        MORE_THAN_TOLD => "2^53 or more".to_owned(),
        number => number.to_string(),
    }
}

fn reserved(pool: &Pool) -> String {
    format!("{} of {}", pool.used, total(pool))
}

fn list(pools: &[Pool]) -> String {
    let row = |pool: &Pool| vec![pool.name.to_string(), interface(pool), ranges(pool), reserved(pool)];
    printer::table(&["NAME", "INTERFACE", "RANGES", "RESERVED"], pools.iter().map(row))
}

fn show(pool: &Pool) -> String {
    let mut rows = vec![
        ("name", pool.name.to_string()),
        ("id", pool.id.to_string()),
        ("interface", interface(pool)),
        ("reserved", reserved(pool)),
        ("created", printer::time(pool.created_at)),
    ];
    // One on each line: they are to be compared, and may be many.
    let names = ["ranges"].into_iter().chain(std::iter::repeat(""));
    rows.extend(names.zip(pool.ranges.iter().copied().map(range)));
    printer::fields(&rows)
}
