//! stdout is data: tables for people, JSON for programs. stderr is talk: what was done.
//!
//! Much of what is printed was said by others: a host's kernel, an agent, whoever named a thing.
//! Nothing of that may move a terminal's cursor, colour it or turn its text around.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

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
    anstream::eprintln!("{}", harmless(text));
}

/// The text with `U+FFFD` for what a terminal obeys instead of showing it: control characters,
/// line breaks among them, and those that turn the order of what follows.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    match text.contains(is_obeyed) {
        true => text.replace(is_obeyed, "\u{fffd}").into(),
        false => text.into(),
    }
}

fn is_obeyed(c: char) -> bool {
    c.is_control() || turns_order(c)
}

/// The marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9 §2).
fn turns_order(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    print_text(&format!("{}\n", escaped(serde_json::to_string_pretty(value)?)))
}

/// Prints JSON on one line, for streams.
pub(crate) fn print_json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print_text(&format!("{}\n", escaped(serde_json::to_string(value)?)))
}

/// The same JSON with escapes for what a terminal obeys, which can stand in strings only. JSON
/// wants them for the characters before the blank alone (RFC 8259 §7); those are escaped already.
fn escaped(json: String) -> String {
    let is_bare = |c: char| is_obeyed(c) && c != '\n';
    if !json.contains(is_bare) {
        return json;
    }
    let escape = |c: char| if is_bare(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// A table without borders, header in capitals.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| harmless(cell)));
    }
    aligned(table)
}

/// The fields of one thing, one per line.
pub(crate) fn fields(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    for (name, value) in rows {
        table.add_row([Cow::from(*name), harmless(value)]);
    }
    aligned(table)
}

/// A line below a table, about something in it.
pub(crate) fn remark(text: &str) -> String {
    format!("  {}\n", harmless(text))
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

/// An instance, and who comes in by it if it is a VPN.
pub(crate) fn with_user<T: ToString>(instance: &T, user: Option<&T>) -> String {
    match user {
        Some(user) => format!("{} ({})", instance.to_string(), user.to_string()),
        None => instance.to_string(),
    }
}

/// Several values in one cell.
pub(crate) fn listed<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    listed_by(", ", values)
}

/// The same with something else between them, for values that have commas in them.
pub(crate) fn listed_by<T: ToString>(between: &str, values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(between) }
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

/// `1 host`, `2 hosts`, `2 addresses`.
pub(crate) fn counted(number: impl TryInto<u128>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u128::MAX);
    let plural = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{plural}")
}

/// How long something took: `48 ms`, `2.3 s`.
pub(crate) fn duration(took: Duration) -> String {
    match took.as_millis() {
        short @ ..1000 => format!("{short} ms"),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

/// Values in order, those that follow one another by their first and last: `100 to 107, 110`. Of
/// many such runs the rest is counted only, since a line is to be read.
pub(crate) fn runs<T: Copy + ToString>(values: &[T], follows: impl Fn(T, T) -> bool) -> String {
    const SHOWN: usize = 5;
    let runs: Vec<&[T]> = values.chunk_by(|one, next| follows(*one, *next)).collect();
    let text = |run: &&[T]| match run {
        [] => String::new(),
        [one] => one.to_string(),
        [first, .., last] => format!("{} to {}", first.to_string(), last.to_string()),
    };
    let shown: Vec<String> = runs.iter().take(SHOWN).map(text).collect();
    let rest: usize = runs.iter().skip(SHOWN).map(|run| run.len()).sum();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
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
    anstream::eprint!("{} {}? [y/N] ", verb.to_do, harmless(thing));
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

/// For what others have to follow.
pub(crate) const CHANGE: Verb = Verb { to_do: "change", doing: "changing" };

/// For what takes the place of what others hold.
pub(crate) const RENEW: Verb = Verb { to_do: "renew", doing: "renewing" };

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
    #[test]
    fn what_a_terminal_obeys_is_not_printed() {
        let said = "\u{1b}[2J\u{9b}31mall is well\r\nkvm2  connected\u{202e}";
        let row = vec!["kvm1".to_owned(), said.to_owned()];
        let seen = "kvm1  \u{fffd}[2J\u{fffd}31mall is well\u{fffd}\u{fffd}kvm2  connected\u{fffd}\n";
        assert_eq!(table(&["NAME", "SAYS"], [row]), format!("NAME  SAYS\n{seen}"));
        assert_eq!(fields(&[("kvm1", said.to_owned())]), seen);
        let json = escaped(serde_json::to_string_pretty(&[said]).unwrap());
        assert!(!json.contains(|c| is_obeyed(c) && c != '\n'), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [said]);
    }

    #[test]
    fn runs_are_told_by_their_ends() {
        let follows = |one, next| one + 1 == next;
        assert_eq!(runs(&[100, 101, 102, 110], follows), "100 to 102, 110");
        assert_eq!(runs(&[7], follows), "7");
        assert_eq!(runs(&[1, 3, 5, 7, 9, 11, 12, 14], follows), "1, 3, 5, 7, 9 and 3 more");
    }
}
