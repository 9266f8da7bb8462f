//! `trestle doctor`

use clap::Args;
use trestle_agent::doctor::{self, Examination, Finding, Severity};

use super::Context;
use super::attach::AgentSocket;
use crate::error::CommandError;
use crate::printer;

/// How many instances of a finding are named; JSON has all.
const INSTANCES_SHOWN: usize = 5;

/// Find what stands between this host's instances and their gateway, and what mends it
///
/// Looks at the host itself, as root: rules of other programs that drop what instances send,
/// forwarding, reverse path filters, MTUs, br_netfilter, what the kernel lacks, and what the agent
/// says. Nothing is changed. What could not be looked at is a finding too.
///
/// Exit status 1 says that something is broken; what may break, and notes, leave it 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trestle doctor\n  trestle doctor --probe --json")]
pub(crate) struct DoctorArgs {
    /// Look for DHCP servers that are not Trestle's, too: sends two DHCPDISCOVER broadcasts out of
    /// each bridge, from a MAC of their own, and takes no address
    #[arg(long)]
    probe: bool,
    #[command(flatten)]
    agent: AgentSocket,
}

pub(crate) async fn run(args: &DoctorArgs, context: &Context) -> anyhow::Result<()> {
    let probe = args.probe.then_some(&printer::say as &dyn Fn(&str));
    let findings = doctor::examine(Examination { socket: args.agent.path(), probe }).await;
    if findings.is_empty() {
        printer::say("nothing found");
    }
    context.printer().show(&findings, |findings| text(findings))?;
    let count = findings.iter().filter(|finding| finding.severity == Severity::Broken).count();
    match count {
        0 => Ok(()),
        count => Err(CommandError::Broken { count, broken: printer::counted(count, "thing") }.into()),
    }
}

/// A table with what is wrong and what mends it below each row. The commands are printed as they are
/// typed.
fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let rows = findings.iter().map(|finding| {
        vec![
            printer::word(&finding.severity).replace('_', " "),
            printer::word(&finding.code),
            printer::listed(&finding.bridges),
            instances(finding),
        ]
    });
    let table = printer::table(&["SEVERITY", "CODE", "BRIDGES", "INSTANCES"], rows);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, finding) in lines.zip(findings) {
        text.push_str(&format!("{line}\n{}{}", printer::remark(&finding.text), mend(finding)));
    }
    text
}

fn mend(finding: &Finding) -> String {
    let words = printer::remark(&format!("mend: {}", finding.mend));
    let commands = finding.commands.iter().map(|command| printer::remark(&format!("  {command}")));
    [words].into_iter().chain(commands).collect()
}

fn instances(finding: &Finding) -> String {
    let shown = printer::listed(finding.instances.iter().take(INSTANCES_SHOWN));
    match finding.instances.len().saturating_sub(INSTANCES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use trestle_agent::doctor::Code;

    use super::*;

    #[test]
    fn a_row_for_each_finding_with_what_mends_it_below() {
        let finding = Finding {
            severity: Severity::Broken,
            code: Code::PacketsDropped,
            bridges: ["br100".parse().expect("a device")].into(),
            instances: (1..=7).map(|number| format!("web{number}")).collect(),
            text: "Docker's chain FORWARD of table ip filter drops what instances send outside (policy drop)"
                .to_owned(),
            mend: "let it pass, and put that where these rules are loaded at boot".to_owned(),
            commands: ["-i", "-o"]
                .map(|side| format!("iptables -I DOCKER-USER {side} br100 -j ACCEPT"))
                .into(),
        };
        let note = Finding {
            severity: Severity::MayBreak,
            code: Code::ControllerUnreachable,
            bridges: [].into(),
            instances: [].into(),
            text: "the agent does not reach the controller".to_owned(),
            mend: "look whether `trestle server` runs".to_owned(),
            commands: [].into(),
        };
        insta::assert_snapshot!(text(&[finding, note]), @"
        SEVERITY   CODE                    BRIDGES  INSTANCES
        broken     packets_dropped         br100    web1, web2, web3, web4, web5 and 2 more
          Docker's chain FORWARD of table ip filter drops what instances send outside (policy drop)
          mend: let it pass, and put that where these rules are loaded at boot
            iptables -I DOCKER-USER -i br100 -j ACCEPT
            iptables -I DOCKER-USER -o br100 -j ACCEPT
        may break  controller_unreachable  -        -
          the agent does not reach the controller
          mend: look whether `trestle server` runs
        ");
        assert_eq!(text(&[]), "");
    }
}
