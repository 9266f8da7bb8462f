//! `trestle project`

use std::str::FromStr;

use clap::{Args, Subcommand};
use trestle_api::{NewProject, Project, ProjectPatch};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// Projects own instances and networks
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project
    #[command(after_help = "Example: trestle project create alpha")]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
    },
    /// List projects
    #[command(after_help = "Example: trestle project list --json")]
    List,
    /// Show a project, what it may have and what it has
    #[command(after_help = "Example: trestle project show alpha")]
    Show {
        /// Its name or id
        project: String,
    },
    /// Set how much a project may have; what is not given stays
    ///
    /// What a project has already stays with it, whatever the limit.
    #[command(after_help = "Example: trestle project set-quota alpha --networks 5 --fixed-ips unlimited")]
    SetQuota {
        /// Its name or id
        project: String,
        #[command(flatten)]
        limits: Limits,
    },
    /// Set what new instances of a project get
    #[command(after_help = "Example: trestle project set alpha --auto-assign public")]
    Set {
        /// Its name or id
        project: String,
        /// A pool, by name or id, of which each new instance gets a floating IP, for as long as it
        /// is there; '' for none. Instances that are there already stay as they are
        #[arg(long, value_name = "POOL")]
        auto_assign: String,
    },
    /// Delete a project that has nothing any more
    #[command(after_help = "Example: trestle project delete alpha --yes")]
    Delete {
        /// Its name or id
        project: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Limits {
    /// Networks of its own: a number, or unlimited
    #[arg(long, value_name = "LIMIT")]
    networks: Option<Limit>,
    /// Fixed IPs of its instances: a number, or unlimited
    #[arg(long, value_name = "LIMIT")]
    fixed_ips: Option<Limit>,
    /// Floating IPs: a number, or unlimited
    #[arg(long, value_name = "LIMIT")]
    floating_ips: Option<Limit>,
    /// Security groups: a number, or unlimited
    #[arg(long, value_name = "LIMIT")]
    security_groups: Option<Limit>,
    /// Rules of each security group: a number, or unlimited
    #[arg(long, value_name = "LIMIT")]
    security_group_rules: Option<Limit>,
}

/// A limit as the API writes it: -1 is none.
#[derive(Clone, Copy, Debug)]
struct Limit(i64);

/// Why a text is not a [`Limit`].
#[derive(Debug, thiserror::Error)]
#[error("a limit is a number from 0 to {max}, or `unlimited`", max = u32::MAX)]
struct InvalidLimit;

impl FromStr for Limit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self(-1));
        }
        text.parse().map(|number: u32| Self(number.into())).map_err(|_| InvalidLimit)
    }
}

impl From<Limits> for ProjectPatch {
    fn from(limits: Limits) -> Self {
        let number = |limit: Option<Limit>| limit.map(|Limit(number)| number);
        Self {
            networks: number(limits.networks),
            fixed_ips: number(limits.fixed_ips),
            floating_ips: number(limits.floating_ips),
            security_groups: number(limits.security_groups),
            security_group_rules: number(limits.security_group_rules),
            auto_assign: None,
        }
    }
}

pub(crate) async fn run(command: ProjectCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        ProjectCommand::Create { name } => {
            let project = client.create_project(&NewProject { name }).await?;
            printer.done(&project, &format!("created project {}", project.name))
        }
        ProjectCommand::List => {
            let page = every_page(async |page| client.list_projects(&page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        ProjectCommand::Show { project } => printer.show(&client.project(&project).await?, show),
        ProjectCommand::SetQuota { project, limits } => {
            let project = client.patch_project(&project, &limits.into()).await?;
            let quota = quota(&project).map(|(what, _, limit)| format!("{what} {}", limit_text(limit)));
            printer.done(&project, &format!("project {} may have: {}", project.name, quota.join(", ")))
        }
        ProjectCommand::Set { project, auto_assign } => {
            let patch = ProjectPatch { auto_assign: Some(auto_assign), ..ProjectPatch::default() };
            let project = client.patch_project(&project, &patch).await?;
            printer.done(&project, &auto_assigned(&project))
        }
        ProjectCommand::Delete { project, confirmation } => {
            let thing = format!("project {project}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_project(&project).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

fn list(projects: &[Project]) -> String {
    let row = |project: &Project| {
        let [networks, fixed_ips, floating_ips, ..] = quota(project).map(|(_, used, limit)| of(used, limit));
        vec![project.name.to_string(), networks, fixed_ips, floating_ips, printer::time(project.created_at)]
    };
    let header = ["NAME", "NETWORKS", "FIXED IPS", "FLOATING IPS", "CREATED"];
    printer::table(&header, projects.iter().map(row))
}

fn show(project: &Project) -> String {
    let mut rows = vec![
        ("name", project.name.to_string()),
        ("id", project.id.to_string()),
        ("created", printer::time(project.created_at)),
    ];
    rows.extend(quota(project).map(|(what, used, limit)| (what, of(used, limit))));
    rows.push(("auto assign", printer::or_dash(project.auto_assign.as_ref())));
    printer::fields(&rows)
}

fn auto_assigned(Project { name, auto_assign, .. }: &Project) -> String {
    match auto_assign {
        Some(pool) => format!("each new instance of project {name} gets a floating IP of pool {pool}"),
        None => format!("new instances of project {name} get no floating IP by themselves"),
    }
}

/// What is limited, how much of it the project has, and the limit.
fn quota(project: &Project) -> [(&'static str, u64, Option<u32>); 5] {
    let Project { quota, usage, .. } = project;
    [
        ("networks", usage.networks, quota.networks),
        ("fixed ips", usage.fixed_ips, quota.fixed_ips),
        ("floating ips", usage.floating_ips, quota.floating_ips),
        ("security groups", usage.security_groups, quota.security_groups),
        ("rules of a group", usage.security_group_rules, quota.security_group_rules),
    ]
}

fn of(used: u64, limit: Option<u32>) -> String {
    match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => format!("{used}, no limit"),
    }
}

fn limit_text(limit: Option<u32>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
