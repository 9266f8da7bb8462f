//! `trestle fixed-ip`

use clap::Subcommand;
use trestle_api::{FixedIp, FixedIpFilter};

use super::Context;
use crate::connection::every_page;
use crate::printer;

/// Fixed IPs are the addresses of networks
#[derive(Debug, Subcommand)]
pub(crate) enum FixedIpCommand {
    /// List fixed IPs that are or were in use, and who has them
    #[command(after_help = "Example: trestle fixed-ip list --network public")]
    List {
        /// Only those of this network
        #[arg(long)]
        network: Option<String>,
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
        /// Only this one
        #[arg(long)]
        address: Option<String>,
    },
}

pub(crate) async fn run(command: FixedIpCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let FixedIpCommand::List { network, project, address } = command;
    let filter = FixedIpFilter { network, project, address };
    let page = every_page(async |page| client.list_fixed_ips(&filter, &page).await).await?;
    context.printer().show(&page, |page| {
        let header = ["ADDRESS", "NETWORK", "STATE", "HELD BY", "PROJECT", "MAC"];
        printer::table(&header, page.items.iter().map(row))
    })
}

fn row(fixed_ip: &FixedIp) -> Vec<String> {
    vec![
        fixed_ip.address.to_string(),
        fixed_ip.network.to_string(),
        printer::word(&fixed_ip.state),
        printer::or_dash(holder(fixed_ip).as_ref()),
        printer::or_dash(fixed_ip.project.as_ref()),
        printer::or_dash(fixed_ip.mac.as_ref()),
    ]
}

/// The instance, or the host that routes under it.
fn holder(fixed_ip: &FixedIp) -> Option<String> {
    let instance = fixed_ip.instance.as_ref();
    let instance = instance.map(|instance| printer::with_user(instance, fixed_ip.vpn_user.as_ref()));
    instance.or_else(|| fixed_ip.host.as_ref().map(|host| format!("gateway on {host}")))
}
