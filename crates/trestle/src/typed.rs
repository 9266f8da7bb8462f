//! What the person typed, to speak of it in their words: the API says `dhcp_options[0]` where they
//! gave `--dhcp-option 42,x`.
//!
//! An argument's id is the name of the field that it becomes; where it cannot be, the field keeps
//! the API's name.

use std::borrow::Cow;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// Flags that say a field is false, beside those that say it is true.
const OPPOSITES: [(&str, &str); 2] = [("multi_host", "single_host"), ("share_address", "per_host")];

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Typed {
    /// The command itself, without those above it.
    command: Command,
    matches: ArgMatches,
}

impl Typed {
    pub(crate) fn new(command: &Command, matches: &ArgMatches) -> Self {
        let (mut command, mut matches) = (command, matches);
        while let Some((name, below)) = matches.subcommand() {
            let Some(found) = command.find_subcommand(name) else { break };
            (command, matches) = (found, below);
        }
        Self { command: command.clone(), matches: matches.clone() }
    }

    /// A field as the person gave it, with its value where that is one of several.
    pub(crate) fn field<'a>(&self, field: &'a str) -> Cow<'a, str> {
        let (name, rest) = match field.find(['[', '.']) {
            Some(at) => field.split_at(at),
            None => (field, ""),
        };
        let Some((arg, flag)) = self.flag(name) else { return field.into() };
        let number = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.parse::<usize>().ok());
        let value = number.and_then(|number| self.matches.get_raw(arg.get_id().as_str())?.nth(number));
        match value {
            Some(value) => format!("--{flag} {}", value.to_string_lossy()).into(),
            None => format!("--{flag}").into(),
        }
    }

    /// The text with the person's words for the fields in it that are one of several, such as
    /// `interfaces[1].network`: nothing else has brackets there.
    pub(crate) fn message(&self, text: &str) -> String {
        let word = |word: &str| {
            let bare = word.trim_end_matches([',', ':']);
            let is_one_of_several = bare.contains('[');
            match self.field(bare) {
                Cow::Owned(field) if is_one_of_several => format!("{field}{}", &word[bare.len()..]),
                _ => word.to_owned(),
            }
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    /// The text of a hint with the flags for the fields that it quotes.
    pub(crate) fn hint(&self, text: &str) -> String {
        let quoted = text.split('`').enumerate().map(|(number, part)| match self.flag(part) {
            Some((_, flag)) if number % 2 == 1 => format!("--{flag}"),
            _ => part.to_owned(),
        });
        quoted.collect::<Vec<_>>().join("`")
    }

    /// The argument that says this field, and its flag.
    fn flag(&self, field: &str) -> Option<(&Arg, &str)> {
        let opposite = OPPOSITES.iter().find(|(name, _)| *name == field).map(|(_, opposite)| *opposite);
        let id = opposite.filter(|opposite| self.is_given(opposite)).unwrap_or(field);
        let arg = self.command.get_arguments().find(|arg| arg.get_id() == id)?;
        Some((arg, arg.get_long()?))
    }

    fn is_given(&self, id: &str) -> bool {
        // To ask for an argument that the command does not have is a mistake to clap.
        self.command.get_arguments().any(|arg| arg.get_id() == id)
            && self.matches.value_source(id) == Some(ValueSource::CommandLine)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn typed(line: &str) -> Typed {
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(line.split(' ')).expect("a command line");
        Typed::new(&command, &matches)
    }

    #[test]
    fn a_field_is_called_by_its_flag() {
        let network = typed(
            "trestle network create x --cidr 10.0.0.0/24 --single-host --dhcp-option 42,x --dhcp-option 6,y",
        );
        assert_eq!(network.field("cidr_v6"), "--cidr-v6");
        assert_eq!(network.field("network_type"), "--type");
        assert_eq!(network.field("dhcp_options"), "--dhcp-option");
        assert_eq!(network.field("dhcp_options[1]"), "--dhcp-option 6,y");
        assert_eq!(network.field("multi_host"), "--single-host");
        assert_eq!(network.field("name"), "name");
        assert_eq!(network.field("elsewhere[0]"), "elsewhere[0]");
        assert_eq!(
            network.hint("begin lower with `vlan_start`, `so`"),
            "begin lower with `--vlan-start`, `so`"
        );
    }

    #[test]
    fn fields_in_a_sentence_are_called_by_their_flags() {
        let instance = typed("trestle instance create db --network a --network b,mac=x");
        assert_eq!(
            instance.message("interfaces[1].mac: the network a is interfaces[0].network, too"),
            "--network b,mac=x: the network a is --network a, too"
        );
    }
}
