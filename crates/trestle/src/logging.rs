//! Logs of the server and the agent: to stderr, as text for people or JSON for collectors.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The variable that says what is logged.
const FILTER_VARIABLE: &str = "TRESTLE_LOG";

/// How to log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How log lines look; TRESTLE_LOG says what is logged, such as `debug`
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// A filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{FILTER_VARIABLE} is not a log filter: `{given}`")]
pub(crate) struct InvalidFilter {
    given: String,
    source: tracing_subscriber::filter::ParseError,
}

/// From now on, logs go to stderr.
pub(crate) fn start(args: &LogArgs) -> Result<(), InvalidFilter> {
    let given = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&given).map_err(|source| InvalidFilter { given, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(has_colour()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

fn has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
