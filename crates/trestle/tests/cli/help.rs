//! The help of every command is kept in `docs/cli.md`, where users read it too.

use std::path::Path;

use crate::support::trestle;

const MARK: &str = "<!-- What follows is the help of every command. `TRESTLE_BLESS=1 cargo test -p trestle --test cli` writes it. -->\n";

#[test]
fn the_reference_is_the_help_of_every_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (guide, committed) = text.split_once(MARK).expect("docs/cli.md has the mark of the reference");
    let reference = reference();
    if std::env::var_os("TRESTLE_BLESS").is_some() {
        std::fs::write(&path, format!("{guide}{MARK}{reference}")).unwrap();
    } else {
        assert!(committed == reference, "docs/cli.md is not what --help says: run with TRESTLE_BLESS=1");
    }
}

fn reference() -> String {
    let mut text = String::new();
    describe(&[], &mut text);
    text
}

fn describe(command: &[&str], text: &mut String) {
    let help = help(command);
    let name = ["trestle"].iter().chain(command).copied().collect::<Vec<_>>().join(" ");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n### {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for below in commands_in(&help) {
        describe(&[command, &[below]].concat(), text);
    }
}

fn help(command: &[&str]) -> String {
    let output = trestle(Path::new("/nowhere")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "help of {command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names that a help lists under `Commands:`.
fn commands_in(help: &str) -> Vec<&str> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, behind)| behind);
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    let named = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}
