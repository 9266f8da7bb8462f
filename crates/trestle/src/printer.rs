//! stdout is data: tables for people, JSON for programs. stderr is talk: what was done.

use std::io::{self, BufRead, IsTerminal, Write};

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::error::CommandError;

/// Where a command's output goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Printer {
    /// Tables.
    People,
    /// JSON.
    Programs,
}

impl Printer {
    /// Prints a value for programs, or what the text says for people.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self {
            Self::People => print_text(&text(value)),
            Self::Programs => print_json(value),
        }
    }

    /// Says what was done; programs get the thing itself as well.
    pub(crate) fn done<T: Serialize>(self, value: &T, text: &str) -> anyhow::Result<()> {
        say(text);
        match self {
            Self::People => Ok(()),
            Self::Programs => print_json(value),
        }
    }
}

/// Says something to the person, apart from the data.
pub(crate) fn say(text: &str) {
    anstream::eprintln!("{text}");
}

/// Prints data as it is. The reader may have gone: that is the caller's error, not a panic.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Prints JSON with line breaks.
pub(crate) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print_text(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints JSON on one line, for streams.
pub(crate) fn print_json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print_text(&format!("{}\n", serde_json::to_string(value)?))
}

/// A table without borders, header in capitals.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    aligned(table)
}

/// The fields of one thing, one per line.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.add_rows(rows.iter().map(|(name, value)| [*name, value]));
    aligned(table)
}

fn aligned(mut table: Table) -> String {
    table.load_style(presets::NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What is printed where there is nothing.
pub(crate) fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// Several values in one cell.
pub(crate) fn listed<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}

/// A word of the API as the API writes it: `flat_dhcp`, `ready`.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A time in UTC, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `1 host`, `2 hosts`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Lets a deed pass that cannot be undone: `--yes` was given, or the person at the terminal says so.
pub(crate) fn confirm(confirmation: &Confirmation, verb: Verb, thing: &str) -> anyhow::Result<()> {
    if confirmation.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let deed = format!("{} {thing}", verb.doing);
        return Err(CommandError::NeedsYes { deed }.into());
    }
    anstream::eprint!("{} {thing}? [y/N] ", verb.to_do);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CommandError::SaidNo.into()),
    }
}

/// What is about to be done, in the two forms that sentences need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verb {
    to_do: &'static str,
    doing: &'static str,
}

/// For deletes.
pub(crate) const DELETE: Verb = Verb { to_do: "delete", doing: "deleting" };
/// For parts that are taken off something.
pub(crate) const REMOVE: Verb = Verb { to_do: "remove", doing: "removing" };

/// The flag of every command that cannot be undone.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Confirmation {
    /// Do it without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_borders_and_no_blanks_at_the_end() {
        let rows = [vec!["public".to_owned(), "10.0.0.0/24".to_owned()], vec!["x".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "CIDR"], rows), "NAME    CIDR\npublic  10.0.0.0/24\nx\n");
    }
}
