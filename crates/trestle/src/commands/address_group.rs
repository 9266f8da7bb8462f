//! `trestle address-group`

use clap::{ArgGroup, Args, Subcommand};
use trestle_api::{AddressGroup, AddressGroupFilter, AddressGroupPatch, NewAddressGroup};

use super::{Context, replaced};
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// Address groups are addresses under a name, for rules of security groups to refer to
#[derive(Debug, Subcommand)]
pub(crate) enum AddressGroupCommand {
    /// Make an address group
    #[command(
        after_help = "Example: trestle address-group create dns --project alpha --range 9.9.9.9 --range 2620:fe::/48"
    )]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        /// The project that owns it [default: a member's own]
        #[arg(long)]
        project: Option<String>,
        /// Its addresses: a CIDR, FIRST-LAST, or one; may be repeated. Those that overlap or adjoin
        /// are put together
        #[arg(long = "range", value_name = "RANGE")]
        ranges: Vec<String>,
    },
    /// List address groups
    #[command(after_help = "Example: trestle address-group list --project alpha")]
    List {
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
    },
    /// Show an address group
    #[command(after_help = "Example: trestle address-group show dns")]
    Show(AddressGroupArg),
    /// Give an address group another name, or other addresses in place of those it has
    #[command(after_help = "Example: trestle address-group set dns --range 9.9.9.9 --range 149.112.112.112")]
    Set(SetArgs),
    /// Delete an address group that no rule names
    #[command(after_help = "Example: trestle address-group delete dns --yes")]
    Delete {
        #[command(flatten)]
        group: AddressGroupArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// One address group.
#[derive(Debug, Args)]
pub(crate) struct AddressGroupArg {
    /// Its name or id
    group: String,
    /// Its project, where the name alone is not unique
    #[arg(long)]
    project: Option<String>,
}

/// What can change on an address group.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("setting").required(true).multiple(true))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    group: AddressGroupArg,
    /// Its new name
    #[arg(long, group = "setting")]
    name: Option<String>,
    /// Its addresses: a CIDR, FIRST-LAST, or one; may be repeated, '' for none
    #[arg(long = "range", value_name = "RANGE", group = "setting")]
    ranges: Vec<String>,
}

pub(crate) async fn run(command: AddressGroupCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        AddressGroupCommand::Create { name, project, ranges } => {
            let group = client.create_address_group(&NewAddressGroup { name, project, ranges }).await?;
            printer.done(&group, &format!("created address group {} ({})", group.name, addresses(&group)))
        }
        AddressGroupCommand::List { project } => {
            let filter = AddressGroupFilter { project, name: None };
            let page = every_page(async |page| client.list_address_groups(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        AddressGroupCommand::Show(AddressGroupArg { group, project }) => {
            printer.show(&client.address_group(&group, project.as_deref()).await?, show)
        }
        AddressGroupCommand::Set(SetArgs { group: AddressGroupArg { group, project }, name, ranges }) => {
            let patch = AddressGroupPatch { name, ranges: replaced(ranges) };
            let group = client.patch_address_group(&group, project.as_deref(), &patch).await?;
            printer.done(&group, &format!("address group {} has {} now", group.name, addresses(&group)))
        }
        AddressGroupCommand::Delete { group: AddressGroupArg { group, project }, confirmation } => {
            let thing = format!("address group {group}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_address_group(&group, project.as_deref()).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

fn addresses(group: &AddressGroup) -> String {
    match &group.ranges[..] {
        [] => "no addresses".to_owned(),
        some => printer::listed(some),
    }
}

fn list(groups: &[AddressGroup]) -> String {
    let row = |group: &AddressGroup| {
        vec![group.name.to_string(), group.project.to_string(), printer::listed(&group.ranges)]
    };
    printer::table(&["NAME", "PROJECT", "RANGES"], groups.iter().map(row))
}

fn show(group: &AddressGroup) -> String {
    printer::fields(&[
        ("name", group.name.to_string()),
        ("id", group.id.to_string()),
        ("project", group.project.to_string()),
        ("ranges", printer::listed(&group.ranges)),
        ("created", printer::time(group.created_at)),
    ])
}
