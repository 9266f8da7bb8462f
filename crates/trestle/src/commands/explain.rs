//! `trestle explain`

use clap::Args;
use trestle_api::explain::{Outcome, Stage};
use trestle_api::types::IcmpType;
use trestle_api::{ExplainQuery, Explanation};

use super::Context;
use crate::error::CommandError;
use crate::printer;

/// Tell whether a packet passes, and who decides it on its way
///
/// It is the first packet of a connection; what answers it passes as it does. Each line is a decision, by what
/// its host is to have: whether the host has it, `trestle status` says. JSON names the objects too.
///
/// Exit status: 0 if it passes, 1 if it does not or that cannot be said.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// Who sends it: INSTANCE, INSTANCE/NETWORK, or any address: an instance's, a host's, one outside
    #[arg(long, value_name = "SENDER")]
    from: String,
    /// Whom to: INSTANCE, INSTANCE/NETWORK, or any address
    #[arg(long, value_name = "RECEIVER")]
    to: String,
    /// tcp, udp, sctp, icmp, icmpv6 or a number
    #[arg(long)]
    protocol: String,
    /// The destination port, of tcp, udp and sctp
    #[arg(long)]
    port: Option<String>,
    /// The message of icmp or icmpv6: TYPE or TYPE/CODE [default: an echo request]
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<String>,
    /// The project of the instances
    #[arg(long)]
    project: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  trestle explain --from web1 --to db1 --protocol tcp --port 5432
  trestle explain --from 198.51.100.7 --to 203.0.113.20 --protocol tcp --port 443";

pub(crate) async fn run(args: ExplainArgs, context: &Context) -> anyhow::Result<()> {
    let ExplainArgs { from, to, protocol, port, icmp_type, project } = args;
    let query = ExplainQuery { from, to, protocol, port, icmp_type, project };
    let explanation = context.client()?.explain(&query).await?;
    context.printer().show(&explanation, text)?;
    match explanation.outcome {
        Outcome::Passes => Ok(()),
        Outcome::Dropped => {
            let last = explanation.stages.last().map(|stage| stage.reason.clone());
            Err(CommandError::DoesNotPass(last.unwrap_or_default()).into())
        }
        Outcome::Unknown => Err(CommandError::CannotSay(explanation.problem.unwrap_or_default()).into()),
    }
}

fn text(explanation: &Explanation) -> String {
    let header = ["HOST", "STAGE", "VERDICT", "RULE", "WHY"];
    let table = printer::table(&header, explanation.stages.iter().map(row));
    format!("{table}\n{}: {}\n", packet(explanation), printer::word(&explanation.outcome))
}

fn row(stage: &Stage) -> Vec<String> {
    vec![
        printer::or_dash(stage.host.as_ref()),
        printer::word(&stage.stage),
        printer::word(&stage.verdict),
        printer::or_dash(stage.rule.as_ref()),
        stage.reason.clone(),
    ]
}

/// `tcp 22 to 10.0.0.6`.
fn packet(explanation: &Explanation) -> String {
    let Explanation { destination, protocol, port, icmp_type, .. } = explanation;
    let port = port.map(|port| format!(" {port}"));
    let message = port.or(icmp_type.map(|icmp: IcmpType| format!(" {icmp}"))).unwrap_or_default();
    format!("{protocol}{message} to {destination}")
}
