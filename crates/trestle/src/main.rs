//! The one binary: the controller, the agent, the lab, and the commands people type.
//!
//! It parses, calls and prints. What should be is decided in the controller, what a host must
//! have in core; nothing here may decide either.

mod args;
mod commands;
mod connection;
mod error;
mod logging;
mod printer;
mod settings;
mod typed;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::typed::Typed;

fn main() -> ExitCode {
    let mut command = Cli::command();
    let matches = command.get_matches_mut();
    let typed = Typed::new(&command, &matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error, &typed),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(path: &str, command: &clap::Command, without: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let is_leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if is_leaf
                && !command.is_hide_set()
                && !help.contains("Example: ")
                && !help.contains("Examples:\n")
            {
                without.push(path.clone());
            }
            for below in command.get_subcommands() {
                check(&path, below, without);
            }
        }
        let mut without = Vec::new();
        check("", &Cli::command(), &mut without);
        assert_eq!(without, Vec::<String>::new());
    }
}
