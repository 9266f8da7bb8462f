//! `trestle token`

use clap::{Subcommand, ValueEnum};
use trestle_api::{NewToken, Role, Token};
use uuid::Uuid;

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation, Printer};

/// Tokens say who may call the API
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print its secret, which is shown this once
    #[command(after_help = "Example: trestle token create --role agent --host kvm1 > agent.token")]
    Create {
        /// What its holder may do
        #[arg(long)]
        role: RoleArg,
        /// A member's project
        #[arg(long)]
        project: Option<String>,
        /// An agent's host
        #[arg(long)]
        host: Option<String>,
        /// For people, to tell tokens apart
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example: trestle token list")]
    List,
    /// Delete a token: who holds it is refused from now on
    #[command(after_help = "Example: trestle token delete 01926b2e-8f4e-7c1a-9d0b-5b8f3a2c1d4e --yes")]
    Delete {
        /// Its id
        token: Uuid,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    /// Everything
    Admin,
    /// See and change one project
    Member,
    /// Be the agent of one host
    Agent,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Admin => Self::Admin,
            RoleArg::Member => Self::Member,
            RoleArg::Agent => Self::Agent,
        }
    }
}

pub(crate) async fn run(command: TokenCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        TokenCommand::Create { role, project, host, description } => {
            let wanted = NewToken { role: role.into(), project, host, description };
            let created = client.create_token(&wanted).await?;
            printer::say(&format!("created token {} ({})", created.token.id, holder(&created.token)));
            match context.printer() {
                Printer::People => printer::print_text(&format!("{}\n", created.secret)),
                Printer::Programs => printer::print_json(&created),
            }
        }
        TokenCommand::List => {
            let page = every_page(async |page| client.list_tokens(&page).await).await?;
            context.printer().show(&page, |page| list(&page.items))
        }
        TokenCommand::Delete { token, confirmation } => {
            let thing = format!("token {token}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_token(token).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

/// Whose token it is: `admin`, `member of alpha`, `agent of kvm1`.
fn holder(token: &Token) -> String {
    let role = printer::word(&token.role);
    match token.project.as_ref().or(token.host.as_ref()) {
        Some(of) => format!("{role} of {of}"),
        None => role,
    }
}

fn list(tokens: &[Token]) -> String {
    let row = |token: &Token| {
        vec![token.id.to_string(), holder(token), printer::time(token.created_at), token.description.clone()]
    };
    printer::table(&["ID", "HOLDER", "CREATED", "DESCRIPTION"], tokens.iter().map(row))
}
