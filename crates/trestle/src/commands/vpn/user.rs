//! `trestle vpn user`

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use qrcode::QrCode;
use qrcode::render::unicode;
use trestle_api::client::Client;
use trestle_api::{NewVpnUser, VpnCredentials, VpnUser, VpnUserRenewal};

use super::ProjectArg;
use crate::connection::every_page;
use crate::error::CommandError;
use crate::printer::{self, Printer};

/// Users of VPNs: who is let in
#[derive(Debug, Subcommand)]
pub(crate) enum VpnUserCommand {
    /// Let somebody in, and print the client's file, which is shown this once
    ///
    /// stdout is the file and nothing else; -o keeps it from others' eyes. With WireGuard and at a terminal a QR code follows, for a phone.
    #[command(after_help = ADD_EXAMPLES)]
    Add(FileArgs),
    /// List a VPN's users, with who is connected
    #[command(after_help = "Example: trestle vpn user list --project alpha")]
    List(ProjectArg),
    /// Let a user in no more: the connection ends at once
    #[command(after_help = "Example: trestle vpn user revoke alice --project alpha")]
    Revoke {
        /// The user's name
        name: String,
        #[command(flatten)]
        project: ProjectArg,
    },
    /// Print a new file for a user; the one before is void at once
    #[command(after_help = "Example: trestle vpn user renew alice --project alpha -o alice.ovpn")]
    Renew(FileArgs),
}

const ADD_EXAMPLES: &str = "\
Examples:
  trestle vpn user add alice --project alpha -o alice.ovpn
  trestle vpn user add bob --days 30 -o bob.ovpn";

/// A user who gets a file.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The user's name: 1 to 63 of a-z, 0-9 and `-`
    name: String,
    #[command(flatten)]
    project: ProjectArg,
    /// For how many days the user is let in [default: as many as were said before, else the server's
    /// vpn_user_days]
    #[arg(long)]
    days: Option<u32>,
    /// Write the file there, for its owner alone; it must not exist
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(command: VpnUserCommand, client: &Client, printer: Printer) -> anyhow::Result<()> {
    match command {
        VpnUserCommand::Add(args) => {
            let file = Target::open(args.output)?;
            let new = NewVpnUser { name: args.name, days: args.days };
            let made = async || {
                let project = args.project.find(client).await?;
                anyhow::Ok(client.add_vpn_user(&project, &new).await?)
            };
            file.take(made().await, printer, "let in")
        }
        VpnUserCommand::List(project) => {
            let project = project.find(client).await?;
            let page = every_page(async |page| client.list_vpn_users(&project, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        VpnUserCommand::Revoke { name, project } => {
            let project = project.find(client).await?;
            client.revoke_vpn_user(&project, &name).await?;
            printer::say(&format!("revoked {name}: the VPN of project {project} lets that user in no more"));
            Ok(())
        }
        VpnUserCommand::Renew(args) => {
            let file = Target::open(args.output)?;
            let renewal = VpnUserRenewal { days: args.days };
            let made = async || {
                let project = args.project.find(client).await?;
                anyhow::Ok(client.renew_vpn_user(&project, &args.name, &renewal).await?)
            };
            file.take(made().await, printer, "renewed")
        }
    }
}

/// Where a client's file goes.
enum Target {
    Stdout,
    File(PathBuf, File),
}

impl Target {
    /// Before anything is asked for: a file that cannot be written would be lost, as nobody can show it
    /// again.
    fn open(path: Option<PathBuf>) -> Result<Self, CommandError> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self::File(path, file)),
            Err(source) => Err(CommandError::Write { path, source }),
        }
    }

    fn take(self, made: anyhow::Result<VpnCredentials>, printer: Printer, what: &str) -> anyhow::Result<()> {
        let credentials = match made {
            Ok(credentials) => credentials,
            Err(error) => {
                if let Self::File(path, _) = &self {
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
        };
        let VpnUser { name, address, expires_at, .. } = &credentials.user;
        let said = format!("{what} {name} as {address} until {}", printer::time(*expires_at));
        match self {
            Self::File(path, mut file) => {
                let written = file.write_all(credentials.config.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|source| CommandError::Lost { path: path.clone(), source })?;
                printer.done(
                    &credentials.user,
                    &format!("{said}; the file is {}: nobody can show it again", path.display()),
                )
            }
            Self::Stdout => {
                let kept = match io::stdout().is_terminal() {
                    true => format!("save it as {}", credentials.file_name),
                    // Whoever took it has a name for it.
                    false => "keep it".to_owned(),
                };
                printer::say(&format!("{said}; the file is shown this once: {kept}"));
                match printer {
                    Printer::People => print(&credentials),
                    Printer::Programs => printer::print_json(&credentials),
                }
            }
        }
    }
}

fn print(credentials: &VpnCredentials) -> anyhow::Result<()> {
    printer::print_text(&credentials.config)?;
    let is_wireguard = credentials.file_name.ends_with(".conf");
    if is_wireguard && io::stdout().is_terminal() {
        eprintln!("{}", qr_code(&for_phones(&credentials.config))?);
    }
    Ok(())
}

/// The file with the DNS servers that are a comment for `wg-quick`'s sake: phones need no program for them.
fn for_phones(config: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# DNS = ") {
        Some(servers) => format!("DNS = {}\n", servers.split("  #").next().unwrap_or(servers)),
        None => format!("{line}\n"),
    };
    config.lines().map(line).collect()
}

/// The text as a QR code for a terminal, light where that is dark and the other way round.
fn qr_code(text: &str) -> anyhow::Result<String> {
    let code = QrCode::new(text)?;
    let dense = code.render::<unicode::Dense1x2>();
    let image = { dense }.dark_color(unicode::Dense1x2::Light).light_color(unicode::Dense1x2::Dark).build();
    Ok(image)
}

fn state(user: &VpnUser) -> &'static str {
    match (user.void, user.expired) {
        (true, _) => "void",
        (false, true) => "expired",
        (false, false) => "valid",
    }
}

fn list(users: &[VpnUser]) -> String {
    let row = |user: &VpnUser| {
        let connection = user.connection.as_ref();
        let of =
            |text: fn(&trestle_api::VpnConnection) -> String| printer::or_dash(connection.map(text).as_ref());
        vec![
            user.name.to_string(),
            user.address.to_string(),
            printer::time(user.expires_at),
            state(user).to_owned(),
            of(|connection| connection.remote.clone()),
            of(|connection| printer::time(connection.since)),
            of(|connection| connection.received_bytes.to_string()),
            of(|connection| connection.sent_bytes.to_string()),
        ]
    };
    let header = ["NAME", "ADDRESS", "UNTIL", "STATE", "FROM", "SINCE", "RECEIVED", "SENT"];
    printer::table(&header, users.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_told_the_dns_servers() {
        let file =
            "# VPN\n[Interface]\n# DNS = 10.1.0.1, acme.test  # uncomment where it works\nMTU = 1420\n";
        assert_eq!(for_phones(file), "# VPN\n[Interface]\nDNS = 10.1.0.1, acme.test\nMTU = 1420\n");
    }

    #[test]
    fn a_qr_code_is_of_half_blocks() {
        let code = qr_code("[Interface]\nPrivateKey = x\n").unwrap();
        let lines: Vec<&str> = code.lines().collect();
        assert!(
            lines.len() > 15 && lines.iter().all(|line| line.chars().count() == lines[0].chars().count())
        );
        assert!(code.chars().all(|c| matches!(c, ' ' | '█' | '▀' | '▄' | '\n')), "{code}");
    }
}
