//! `trestle security-group`

mod rule;

use clap::{ArgGroup, Args, Subcommand};
use trestle_api::{
    NewSecurityGroup, SecurityGroup, SecurityGroupFilter, SecurityGroupMembers, SecurityGroupPatch,
    SecurityGroupRule,
};

use self::rule::RuleCommand;
use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// Security groups say what may reach instances and what they may reach
///
/// An interface passes what any rule of any of its groups allows, and what belongs to a connection
/// that one allowed. An instance that names none is in `default`, which every project has.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum SecurityGroupCommand {
    /// Make a security group, without rules: nothing passes for who is in no other
    #[command(
        after_help = "Example: trestle security-group create web --project alpha --description 'serves pages'"
    )]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        /// The project that owns it [default: a member's own]
        #[arg(long)]
        project: Option<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List security groups
    #[command(after_help = "Example: trestle security-group list --project alpha")]
    List {
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
    },
    /// Show a security group and its rules
    #[command(after_help = "Example: trestle security-group show default --project alpha")]
    Show(GroupArg),
    /// Give a security group another name or description
    #[command(after_help = "Example: trestle security-group set web --name frontend")]
    Set(SetArgs),
    /// Delete a security group that no instance is in and no other group's rule names
    #[command(after_help = "Example: trestle security-group delete web --yes")]
    Delete {
        #[command(flatten)]
        group: GroupArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    #[command(subcommand)]
    Rule(RuleCommand),
}

const EXAMPLES: &str = "\
Examples:
  trestle security-group create web --project alpha
  trestle security-group rule add web ingress tcp 80 --from 0.0.0.0/0
  trestle security-group rule add web ingress icmp type 8
  trestle instance interface set web1 public --security-group web --security-group default
  trestle security-group show web";

/// One security group.
#[derive(Debug, Args)]
pub(crate) struct GroupArg {
    /// Its name or id
    group: String,
    /// Its project, where the name alone is not unique
    #[arg(long)]
    project: Option<String>,
}

/// What can change on a security group.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("setting").required(true).multiple(true))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    group: GroupArg,
    /// Its new name; `default` keeps its own
    #[arg(long, group = "setting")]
    name: Option<String>,
    /// What it is for; '' for nothing
    #[arg(long, value_name = "TEXT", group = "setting")]
    description: Option<String>,
}

pub(crate) async fn run(command: SecurityGroupCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        SecurityGroupCommand::Create { name, project, description } => {
            let new = NewSecurityGroup { name, project, description };
            let group = client.create_security_group(&new).await?;
            let text = format!("created security group {} in project {}", group.name, group.project);
            printer.done(&group, &text)
        }
        SecurityGroupCommand::List { project } => {
            let filter = SecurityGroupFilter { project, name: None };
            let page = every_page(async |page| client.list_security_groups(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        SecurityGroupCommand::Show(GroupArg { group, project }) => {
            printer.show(&client.security_group(&group, project.as_deref()).await?, show)
        }
        SecurityGroupCommand::Set(SetArgs { group: GroupArg { group, project }, name, description }) => {
            let patch = SecurityGroupPatch { name, description };
            let changed = client.patch_security_group(&group, project.as_deref(), &patch).await?;
            printer.done(&changed, &format!("changed security group {}", changed.name))
        }
        SecurityGroupCommand::Delete { group: GroupArg { group, project }, confirmation } => {
            let thing = format!("security group {group}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_security_group(&group, project.as_deref()).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
        SecurityGroupCommand::Rule(command) => rule::run(command, &client, printer).await,
    }
}

fn list(groups: &[SecurityGroup]) -> String {
    let row = |group: &SecurityGroup| {
        let description = Some(&group.description).filter(|text| !text.is_empty());
        vec![
            group.name.to_string(),
            group.project.to_string(),
            group.rules.len().to_string(),
            printer::or_dash(description),
        ]
    };
    printer::table(&["NAME", "PROJECT", "RULES", "DESCRIPTION"], groups.iter().map(row))
}

fn show(group: &SecurityGroup) -> String {
    let description = Some(&group.description).filter(|text| !text.is_empty());
    let mut fields = vec![
        ("name", group.name.to_string()),
        ("id", group.id.to_string()),
        ("project", group.project.to_string()),
        ("description", printer::or_dash(description)),
        ("created", printer::time(group.created_at)),
    ];
    fields.extend(group.members.as_ref().map(|members| ("instances", who(members))));
    let mut text = printer::fields(&fields);
    text.push('\n');
    match &group.rules[..] {
        [] => text.push_str(&printer::remark("it has no rules: it lets nothing pass")),
        rules => text.push_str(&rule_table(rules)),
    }
    text
}

/// How many instances are in it, and the first of them.
fn who(SecurityGroupMembers { instances, first }: &SecurityGroupMembers) -> String {
    if first.is_empty() {
        return instances.to_string();
    }
    let more = instances.saturating_sub(first.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{instances}: {}{more}", printer::listed(first))
}

fn rule_table(rules: &[SecurityGroupRule]) -> String {
    let row = |rule: &SecurityGroupRule| {
        let counted = [rule.packets, rule.bytes].map(|count| printer::or_dash(count.as_ref()));
        let [packets, bytes] = counted;
        vec![rule.text.clone(), packets, bytes, rule.id.to_string()]
    };
    printer::table(&["RULE", "PACKETS", "BYTES", "ID"], rules.iter().map(row))
}
