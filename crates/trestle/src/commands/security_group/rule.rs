//! `trestle security-group rule`

use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::{Span, SpanTotal, Unit};
use trestle_api::NewSecurityGroupRule;
use trestle_api::client::Client;

use super::{GroupArg, rule_table};
use crate::connection::every_page;
use crate::error::CommandError;
use crate::printer::{self, Printer};

/// Rules allow some packets of one direction
#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Add a rule to a security group; it holds at once
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArgs),
    /// List a security group's rules, with how many packets each decided on: the first of each
    /// connection
    #[command(after_help = "Example: trestle security-group rule list web")]
    List(GroupArg),
    /// Delete a rule; no new connection comes by what it alone allowed
    #[command(
        after_help = "Example: trestle security-group rule delete web 0190c3f2-7d5a-7cc1-8f43-0123456789ab"
    )]
    Delete {
        #[command(flatten)]
        group: GroupArg,
        /// Its id, as `rule list` prints it
        rule: String,
    },
}

const ADD_EXAMPLES: &str = "\
Examples:
  trestle security-group rule add web ingress tcp 80 --from 0.0.0.0/0
  trestle security-group rule add web ingress tcp 8000-8080 from 10.0.0.0/8
  trestle security-group rule add web ingress icmp type 8
  trestle security-group rule add db ingress tcp 5432 --from-group web
  trestle security-group rule add web egress udp 53 --to-address-group dns
  trestle security-group rule add web ingress tcp 22 --from 192.0.2.7/32 --expires-in 1h";

/// A rule and the group that it is for.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    group: GroupArg,
    /// The rule: ingress or egress; ipv4 or ipv6, if not both; a protocol, by name or number, or
    /// any; its ports, or `type` and a type of ICMP; then, if not given by flags, from or to whom,
    /// and until when
    #[arg(required = true, num_args = 1..)]
    rule: Vec<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    end: EndArgs,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct RemoteArgs {
    /// Who is at the other end: a range of addresses [default: anybody]
    #[arg(long = "from", visible_alias = "to", value_name = "CIDR")]
    remote_cidr: Option<String>,
    /// The members of this security group of the project
    #[arg(long = "from-group", visible_alias = "to-group", value_name = "GROUP")]
    remote_group: Option<String>,
    /// The addresses of this address group of the project
    #[arg(long = "from-address-group", visible_alias = "to-address-group", value_name = "GROUP")]
    remote_address_group: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct EndArgs {
    /// When it ends: 2026-12-01T00:00:00Z [default: never]
    #[arg(long = "until", value_name = "TIME")]
    expires_at: Option<String>,
    /// After how long it ends: 90s, 1h, 2d
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Seconds>,
}

/// So many seconds, written `90s`, `1h 30m` or `2d`.
#[derive(Clone, Copy, Debug)]
struct Seconds(u32);

/// Why a text is not [`Seconds`].
#[derive(Debug, thiserror::Error)]
#[error("it is not a duration of a second or more: write it as 90s, 1h 30m or 2d")]
struct InvalidSeconds;

impl FromStr for Seconds {
    type Err = InvalidSeconds;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span: Span = text.parse().map_err(|_| InvalidSeconds)?;
        let seconds = span.total(SpanTotal::from(Unit::Second).days_are_24_hours());
        let whole = seconds.map_err(|_| InvalidSeconds)?;
        if !(1.0..=f64::from(u32::MAX)).contains(&whole) {
            return Err(InvalidSeconds);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between")]
        Ok(Self(whole as u32))
    }
}

impl AddArgs {
    /// The rule that the words and the flags make together; a flag wins.
    fn rule(self) -> Result<NewSecurityGroupRule, CommandError> {
        let words: NewSecurityGroupRule = self.rule.join(" ").parse()?;
        let (remote, end) = (self.remote, self.end);
        Ok(NewSecurityGroupRule {
            remote_cidr: remote.remote_cidr.or(words.remote_cidr),
            remote_group: remote.remote_group.or(words.remote_group),
            remote_address_group: remote.remote_address_group.or(words.remote_address_group),
            expires_at: end.expires_at.or(words.expires_at),
            expires_in: end.expires_in.map(|Seconds(seconds)| seconds),
            ..words
        })
    }
}

pub(super) async fn run(command: RuleCommand, client: &Client, printer: Printer) -> anyhow::Result<()> {
    match command {
        RuleCommand::Add(mut args) => {
            let (group, project) = (std::mem::take(&mut args.group.group), args.group.project.take());
            let rule = args.rule()?;
            let rule = client.add_security_group_rule(&group, project.as_deref(), &rule).await?;
            printer.done(&rule, &format!("added rule `{}` to security group {group}", rule.text))
        }
        RuleCommand::List(GroupArg { group, project }) => {
            let list = async |page| client.list_security_group_rules(&group, project.as_deref(), &page).await;
            printer.show(&every_page(list).await?, |page| rule_table(&page.items))
        }
        RuleCommand::Delete { group: GroupArg { group, project }, rule } => {
            client.delete_security_group_rule(&group, project.as_deref(), &rule).await?;
            printer::say(&format!("deleted rule {rule} of security group {group}"));
            Ok(())
        }
    }
}
