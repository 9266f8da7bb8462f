//! `trestle address`

use clap::Subcommand;
use trestle_api::{HistoryFilter, Holding};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Printer};

/// Addresses, fixed and floating, and who had them
#[derive(Debug, Subcommand)]
pub(crate) enum AddressCommand {
    /// Tell who had an address when, the newest first
    ///
    /// The names are those of then: what was deleted since is there too. It is kept as long as the
    /// server's address_history_days says.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// A fixed or floating IP
        address: String,
        /// Only who had it then, in RFC 3339
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
}

const HISTORY_EXAMPLES: &str = "\
Examples:
  trestle address history 203.0.113.20
  trestle address history 203.0.113.20 --at 2026-11-29T01:00:00Z";

pub(crate) async fn run(command: AddressCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let AddressCommand::History { address, at } = command;
    let filter = HistoryFilter { at };
    let page = every_page(async |page| client.address_history(&address, &filter, &page).await).await?;
    let printer = context.printer();
    match printer {
        Printer::People if page.items.is_empty() => {
            printer::say(&nobody(&address, &filter));
            Ok(())
        }
        _ => printer.show(&page, |page| list(&page.items)),
    }
}

fn nobody(address: &str, filter: &HistoryFilter) -> String {
    match &filter.at {
        Some(at) => format!("nobody had {address} at {at}, as far as you can see"),
        None => format!("nobody had {address} yet, as far as you can see"),
    }
}

fn list(holdings: &[Holding]) -> String {
    let row = |holding: &Holding| {
        let instance = holding.instance.as_ref();
        let instance = instance.map(|instance| printer::with_user(instance, holding.vpn_user.as_ref()));
        vec![
            printer::time(holding.since),
            holding.until.map_or_else(|| "now".to_owned(), printer::time),
            printer::word(&holding.held_as),
            holding.project.to_string(),
            printer::or_dash(instance.as_ref()),
            printer::or_dash(holding.host.as_ref()),
            printer::or_dash(holding.mac.as_ref()),
        ]
    };
    let header = ["SINCE", "UNTIL", "AS", "PROJECT", "INSTANCE", "HOST", "MAC"];
    printer::table(&header, holdings.iter().map(row))
}
