//! `trestle events`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use trestle_api::client::{Client, ClientError};
use trestle_api::{Event, EventFilter};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Printer};

/// How long to wait before the controller is asked again after it went away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How many events can be asked for as the last ones.
const MOST: u32 = 1000;

/// Show what happened, and follow what happens
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle events --follow --kind host")]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until Ctrl-C; with --json, one object per line
    #[arg(long, short)]
    follow: bool,
    /// Only the last so many, 1000 at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: Option<u32>,
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
    let EventsArgs { follow: follows, last, kind, project, host } = args;
    let mut filter = EventFilter { kind, project, host, last };
    let page = every_page(async |page| client.list_events(&filter, &page).await).await?;
    if page.items.is_empty() {
        printer::say(&why_none(&client, &filter).await?);
    }
    if !follows {
        return printer.show(&page, |page| table(&page.items));
    }
    for event in &page.items {
        print_one(printer, event)?;
    }
    let behind = page.items.last().map_or(0, |event| event.id);
    // What was asked for of the past is shown; of the future all is.
    filter.last = None;
    follow(&client, &filter, behind, printer).await
}

/// Says why there is no event: a name that nobody has is an error, anything else may be so.
async fn why_none(client: &Client, filter: &EventFilter) -> anyhow::Result<String> {
    if let Some(host) = &filter.host {
        known(client.host(host).await)?;
    }
    if let Some(project) = &filter.project {
        known(client.project(project).await)?;
    }
    let mut text = "there are no events".to_owned();
    let kind = filter.kind.as_ref().map(|kind| ("of kind", kind));
    let project = filter.project.as_ref().map(|project| ("about project", project));
    let host = filter.host.as_ref().map(|host| ("about host", host));
    for (what, value) in kind.into_iter().chain(project).chain(host) {
        text.push_str(&format!(" {what} `{value}`"));
    }
    let seen = if filter.kind.is_some() { seen_kinds(client).await? } else { BTreeSet::new() };
    if !seen.is_empty() {
        text.push_str(&format!("; there are some of kind {}", printer::listed(seen)));
    }
    Ok(text)
}

/// The kinds of what happened lately.
async fn seen_kinds(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let filter = EventFilter { last: Some(MOST), ..EventFilter::default() };
    let page = every_page(async |page| client.list_events(&filter, &page).await).await?;
    Ok(page.items.into_iter().map(|event| event.kind).collect())
}

/// Who may not see the thing is not told whether it is there.
fn known<T>(answer: Result<T, ClientError>) -> Result<(), ClientError> {
    match answer {
        Err(error) if error.code() != Some("forbidden") => Err(error),
        _ => Ok(()),
    }
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
            let host = printer::or_dash(event.host.as_ref());
            let what = what(event);
            let line = format!("{}  {:<20}  {host:<10}  {what}", printer::time(event.at), event.kind);
            printer::print_text(&format!("{}\n", printer::harmless(&line)))
        }
        Printer::Programs => printer::print_json_line(event),
    }
}

/// Events as a table, the oldest first.
pub(crate) fn table(events: &[Event]) -> String {
    let row = |event: &Event| {
        let host = printer::or_dash(event.host.as_ref());
        vec![printer::time(event.at), event.kind.clone(), host, what(event)]
    };
    printer::table(&["TIME", "KIND", "HOST", "WHAT"], events.iter().map(row))
}

/// What happened, and to what, such as the key of a problem, where the sentence leaves that out.
fn what(event: &Event) -> String {
    let Event { subject, message, .. } = event;
    if message.contains(subject) { message.clone() } else { format!("{subject}: {message}") }
}
