//! `trestle project`

use clap::Subcommand;
use trestle_api::{NewProject, Project};

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
    /// Show a project
    #[command(after_help = "Example: trestle project show alpha")]
    Show {
        /// Its name or id
        project: String,
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
            printer.show(&page, |page| {
                let row = |p: &Project| vec![p.name.to_string(), printer::time(p.created_at)];
                printer::table(&["NAME", "CREATED"], page.items.iter().map(row))
            })
        }
        ProjectCommand::Show { project } => printer.show(&client.project(&project).await?, |project| {
            printer::fields(&[
                ("name", project.name.to_string()),
                ("id", project.id.to_string()),
                ("created", printer::time(project.created_at)),
            ])
        }),
        ProjectCommand::Delete { project, confirmation } => {
            let thing = format!("project {project}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_project(&project).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}
