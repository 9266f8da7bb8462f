//! `trestle plan`

use clap::Args;
use serde::Serialize;
use trestle_api::local::{LocalReply, LocalRequest};
use trestle_api::plan::Problem;

use super::attach::AgentSocket;
use super::{Context, host};
use crate::printer;

/// Show what this host's agent would change now, and what it cannot do
///
/// One step per line, in order; nothing is changed. A host that has what it must have prints
/// nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle plan")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    agent: AgentSocket,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Plan {
    steps: Vec<String>,
    problems: Vec<Problem>,
}

pub(crate) async fn run(args: &PlanArgs, context: &Context) -> anyhow::Result<()> {
    let LocalReply::Plan { steps, problems } = args.agent.call(&LocalRequest::Plan).await? else {
        return Err(args.agent.unexpected());
    };
    if steps.is_empty() {
        printer::say("nothing to do");
    }
    context.printer().show(&Plan { steps, problems }, text)
}

fn text(plan: &Plan) -> String {
    let problems = plan.problems.iter().map(|problem| format!("problem: {}", host::problem_line(problem)));
    let lines = plan.steps.iter().cloned().chain(problems);
    lines.map(|line| format!("{}\n", printer::harmless(&line))).collect()
}
