//! What a person is told when a command fails.
//!
//! `error:` says what could not be done, `caused by:` lines say why, each problem of a request
//! has a line of its own, and `hint:` says what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use trestle_agent::{AgentError, ConnectError};
use trestle_api::client::ClientError;
use trestle_api::local::LocalError;
use trestle_api::{ApiError, FieldProblem, InvalidRuleText};
use trestle_controller::server::ServeError;
use trestle_inject::InjectError;

use crate::printer::harmless;
use crate::settings::SettingsError;
use crate::typed::Typed;

const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();
/// How many problems of a request are shown; thousands of networks can be asked for at once.
const PROBLEMS_SHOWN: usize = 20;

/// What can be wrong before the controller or the agent is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is no token to call with.
    #[error("there is no token to call the controller with")]
    NoToken(#[source] ReadError),
    /// The token file that was named cannot be used.
    #[error("the token file cannot be used")]
    TokenFile(#[source] ReadError),
    /// Something would be deleted and nobody can be asked.
    #[error("{deed} needs a yes")]
    NeedsYes {
        /// What would be done: `deleting network public`.
        deed: String,
    },
    /// The doctor found something that does not work.
    #[error("{broken} on this host {verb} broken", verb = if *.count == 1 { "is" } else { "are" })]
    Broken {
        /// How many.
        count: usize,
        /// The same in words.
        broken: String,
    },
    /// The person said no.
    #[error("nothing was deleted")]
    SaidNo,
    /// A packet is dropped, and why.
    #[error("it does not pass: {0}")]
    DoesNotPass(String),
    /// Why it cannot be said what becomes of a packet.
    #[error("it cannot be said whether it passes: {0}")]
    CannotSay(String),
    /// No user has this name.
    #[error("there is no user `{0}`")]
    NoUser(String),
    /// No network namespace has this name.
    #[error("there is no network namespace `{name}`: {path} does not exist", path = .path.display())]
    NoNamespace {
        /// What was given.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {path}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A user was let in, and the file for that is not written.
    #[error("cannot write {path}, and nobody can show again what was to be in it", path = .path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no VPN that could be meant.
    #[error("there is no VPN")]
    NoVpn,
    /// It is not said which VPN is meant.
    #[error("there are several VPNs: say whose")]
    SeveralVpns,
    /// The words are no rule of a security group.
    #[error(transparent)]
    Rule(#[from] InvalidRuleText),
    /// Every network of the instance has DHCP.
    #[error("instance {0} has no interface on a network of type flat")]
    NothingToInject(String),
    /// The instance has no such interface, or more than one.
    #[error("instance {instance} has {found} interfaces that `{wanted}` can mean")]
    WhichInterface {
        /// The instance.
        instance: String,
        /// What was given.
        wanted: String,
        /// How many there are.
        found: usize,
    },
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system says why.
    #[error("cannot read {path}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("{path} is empty", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl CommandError {
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoToken(_) => {
                "run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file"
            }
            Self::TokenFile(_) => "give --token-file a file that holds the token and that you may read",
            Self::NeedsYes { .. } => "give --yes",
            Self::NoUser(_) => "give the name or the uid of a user of this host",
            Self::NoNamespace { .. } => "`ip netns list` shows the named ones; any path works too",
            Self::NothingToInject(_) => "its addresses reach it by DHCP, with nothing to be written",
            Self::WhichInterface { .. } => "give the id that `trestle instance show` prints",
            Self::Write { .. } => "nothing was asked for yet; name a file that does not exist",
            Self::Lost { .. } => "`trestle vpn user renew` makes another; the one that is lost is void then",
            Self::NoVpn => "`trestle vpn create` makes one",
            Self::SeveralVpns => "give --project; `trestle vpn list` shows them",
            Self::Rule(_) => "`trestle security-group rule add --help` shows examples",
            Self::SaidNo | Self::Broken { .. } | Self::DoesNotPass(_) | Self::CannotSay(_) => return None,
        })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::NeedsYes { .. } | Self::NoUser(_) | Self::NoNamespace { .. } | Self::Rule(_) => 2,
            _ => 1,
        }
    }
}

/// Tells the person on stderr and gives the exit status.
pub(crate) fn report(error: &anyhow::Error, typed: &Typed) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    anstream::eprint!("{}", render(error, typed));
    let command_error = error.downcast_ref::<CommandError>();
    ExitCode::from(command_error.map_or(1, CommandError::exit_code))
}

/// Whether the reader of our output has gone, as `head` does; nothing went wrong then.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref::<std::io::Error>().is_some_and(is_pipe)
}

fn render(error: &anyhow::Error, typed: &Typed) -> String {
    let refusal = api_error(error).map(|error| Refusal::new(error, typed));
    let message = refusal.as_ref().map_or_else(|| error.to_string(), |refusal| refusal.message.clone());
    let mut text = format!("{RED}error{RED:#}: {}\n", harmless(&message));
    for cause in causes(error) {
        text.push_str(&format!("  {RED}caused by{RED:#}: {}\n", harmless(&cause)));
    }
    let problems = refusal.map(|refusal| refusal.problems).unwrap_or_default();
    for line in problems.iter().take(PROBLEMS_SHOWN) {
        text.push_str(&format!("  {}\n", harmless(line)));
    }
    if problems.len() > PROBLEMS_SHOWN {
        text.push_str(&format!("  and {} more\n", problems.len() - PROBLEMS_SHOWN));
    }
    if let Some(hint) = hint(error) {
        let hint = if api_error(error).is_some() { typed.hint(hint) } else { hint.to_owned() };
        text.push_str(&format!("\n{CYAN}hint{CYAN:#}: {}\n", harmless(&hint)));
    }
    text
}

/// What the controller or the agent refused, in the words of who asked.
struct Refusal {
    message: String,
    /// A line for each thing that the message does not say.
    problems: Vec<String>,
}

impl Refusal {
    fn new(error: &ApiError, typed: &Typed) -> Self {
        let line = |problem: &FieldProblem| {
            format!("{}: {}", typed.field(&problem.field), typed.message(&problem.message))
        };
        let is_told = |problem: &FieldProblem| {
            problem.message == error.message
                || error.message == format!("{}: {}", problem.field, problem.message)
        };
        match error.problems.as_slice() {
            // Its message may be that of the problem alone, which says enough then.
            [only] if is_told(only) && only.message != error.message => {
                Self { message: line(only), problems: Vec::new() }
            }
            [only] if is_told(only) => Self { message: typed.message(&error.message), problems: Vec::new() },
            several if several.iter().any(is_told) => Self {
                message: format!("{} things are wrong with the request", several.len()),
                problems: several.iter().map(line).collect(),
            },
            others => {
                Self { message: typed.message(&error.message), problems: others.iter().map(line).collect() }
            }
        }
    }
}

/// Why, from the outside in. The layers of an HTTP client between "cannot reach" and what the
/// kernel said tell an operator nothing, and libraries often repeat their cause in their own text.
fn causes(error: &anyhow::Error) -> Vec<String> {
    if let Some(ClientError::Unreachable { .. }) = error.downcast_ref() {
        return vec![error.root_cause().to_string()];
    }
    let texts: Vec<String> = error.chain().map(ToString::to_string).collect();
    let is_news = |pair: &&[String]| !pair[0].contains(&pair[1]);
    texts.windows(2).filter(is_news).map(|pair| pair[1].clone()).collect()
}

/// What the controller said, or the agent, if it was one of them that refused.
fn api_error(error: &anyhow::Error) -> Option<&ApiError> {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Api { error, .. }) => Some(error),
        _ => error.downcast_ref::<ApiError>(),
    }
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    if let Some(own) = error.downcast_ref::<CommandError>() {
        return own.hint();
    }
    if let Some(api) = api_error(error) {
        return api.hint.as_deref();
    }
    if let Some(settings) = error.downcast_ref::<SettingsError>() {
        return settings.hint();
    }
    if let Some(serve) = error.downcast_ref::<ServeError>() {
        return serve.hint();
    }
    if let Some(inject) = error.downcast_ref::<InjectError>() {
        return inject.hint();
    }
    if let Some(AgentError::Controller(ConnectError::Token { .. })) = error.downcast_ref() {
        return Some(
            "make one with `trestle token create --role agent --host NAME` and put it there, or give --token-file",
        );
    }
    if let Some(LocalError::Unreachable { .. }) = error.downcast_ref::<LocalError>() {
        return Some(
            "is `trestle agent` running on this host, and are you root? name its socket with --agent-socket",
        );
    }
    match error.downcast_ref::<ClientError>()? {
        ClientError::Unreachable { .. } => {
            Some("is `trestle server` running? say where with --url or TRESTLE_URL")
        }
        ClientError::Unexpected { .. } => Some("is --url the address of `trestle server`?"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// What is told of an error, without colours.
    fn told(error: impl Into<anyhow::Error>) -> String {
        let mut command = crate::args::Cli::command();
        let matches = command.try_get_matches_from_mut(["trestle", "status"]).expect("a command line");
        let text = render(&error.into(), &Typed::new(&command, &matches));
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn every_problem_has_a_line_and_the_hint_comes_last() {
        let problem = |field: &str, message: &str| FieldProblem {
            field: field.into(),
            code: "any".into(),
            message: message.into(),
        };
        let error = ApiError {
            code: "invalid".into(),
            message: "the network cannot be made".into(),
            hint: Some("correct these fields".into()),
            problems: vec![problem("name", "it is empty"), problem("cidr", "`x` is not a CIDR")],
        };
        let text = told(error);
        insta::assert_snapshot!(text, @r"
        error: the network cannot be made
          name: it is empty
          cidr: `x` is not a CIDR

        hint: correct these fields
        ");
    }

    #[test]
    fn causes_are_listed_once() {
        let source = std::io::Error::other("permission denied");
        let read = ReadError::Io { path: "/x/admin.token".into(), source };
        insta::assert_snapshot!(told(CommandError::NoToken(read)), @r"
        error: there is no token to call the controller with
          caused by: cannot read /x/admin.token
          caused by: permission denied

        hint: run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file
        ");
    }
    #[test]
    fn of_very_many_problems_the_rest_is_counted() {
        let problem = |number| FieldProblem {
            field: "name".into(),
            code: "name_taken".into(),
            message: format!("there is a network `n-{number}` already"),
        };
        let error = ApiError {
            code: "name_taken".into(),
            message: "there is a network `n-0` already".into(),
            hint: None,
            problems: (0..4000).map(problem).collect(),
        };
        let text = told(error);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: 4000 things are wrong with the request");
        assert_eq!(lines[1], "  name: there is a network `n-0` already");
        assert_eq!(lines[21..], ["  and 3980 more"]);
    }
}
