//! `trestle events`

use std::time::Duration;

use clap::Args;
use trestle_api::client::{Client, ClientError};
use trestle_api::{Event, EventFilter};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Printer};

/// How long to wait before the controller is asked again after it went away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Show what happened, and follow what happens
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle events --follow --kind host")]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until Ctrl-C; with --json, one object per line
    #[arg(long, short)]
    follow: bool,
    /// Only of this kind, such as instance.created, or host for all that begin with host.
    #[arg(long)]
    kind: Option<String>,
    /// Only about this project
    #[arg(long)]
    project: Option<String>,
    /// Only about this host
    #[arg(long)]
    host: Option<String>,
}

pub(crate) async fn run(args: EventsArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    let filter = EventFilter { kind: args.kind, project: args.project, host: args.host };
    let page = every_page(async |page| client.list_events(&filter, &page).await).await?;
    if !args.follow {
        return printer.show(&page, |page| table(&page.items));
    }
    for event in &page.items {
        print_one(printer, event)?;
    }
    let last = page.items.last().map_or(0, |event| event.id);
    follow(&client, &filter, last, printer).await
}

/// Prints events until the person has seen enough. A controller that restarts is waited for: the
/// stream goes on behind the last event, so nothing is lost.
async fn follow(
    client: &Client,
    filter: &EventFilter,
    mut last: u64,
    printer: Printer,
) -> anyhow::Result<()> {
    let mut is_away = false;
    loop {
        match client.events_stream(filter, Some(last)).await {
            Ok(mut stream) => {
                is_away = false;
                while let Some(Ok(event)) = stream.next().await {
                    print_one(printer, &event)?;
                    last = event.id;
                }
            }
            Err(ClientError::Unreachable { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        if !is_away {
            printer::say("the controller is away, waiting for it");
            is_away = true;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn print_one(printer: Printer, event: &Event) -> anyhow::Result<()> {
    match printer {
        Printer::People => {
            let Event { kind, message, .. } = event;
            printer::print_text(&format!("{}  {kind:<20}  {message}\n", printer::time(event.at)))
        }
        Printer::Programs => printer::print_json_line(event),
    }
}

/// Events as a table, the oldest first.
pub(crate) fn table(events: &[Event]) -> String {
    let row = |event: &Event| vec![printer::time(event.at), event.kind.clone(), event.message.clone()];
    printer::table(&["TIME", "KIND", "WHAT"], events.iter().map(row))
}
