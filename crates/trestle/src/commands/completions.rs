//! `trestle completions` and `trestle man`: what a package puts beside the binary.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::printer;

/// Print a shell's completions
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle completions bash > /etc/bash_completion.d/trestle")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write a man page for every command into a folder
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder; made if it is not there
    folder: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "trestle", &mut text);
    printer::print_text(&String::from_utf8(text)?)
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let folder = &args.folder;
    let failed = || format!("cannot write man pages into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(failed)?;
    let pages = std::fs::read_dir(folder).with_context(failed)?.count();
    printer::say(&format!("wrote {} into {}", printer::counted(pages, "file"), folder.display()));
    Ok(())
}
