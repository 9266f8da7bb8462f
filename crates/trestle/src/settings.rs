//! `trestle.toml`: the options of the server and of the agent.
//!
//! The flags win over the file, the file over the defaults. An option that nobody knows is an
//! error, because it is a misspelt one.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use trestle_agent::AgentConfig;
use trestle_controller::config::ControllerConfig;

/// Where the file is looked for if no flag names another.
pub(crate) const DEFAULT_PATH: &str = "/etc/trestle/trestle.toml";

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The options of `trestle server`.
    pub(crate) server: ControllerConfig,
    /// The options of `trestle agent`, as they are: what must be there may come from a flag.
    pub(crate) agent: toml::Table,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something else.
    #[error("{path} cannot be used", path = .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Mistake,
    },
    /// The agent's options are not what the agent takes.
    #[error("the options of the agent cannot be used")]
    Agent(#[source] Mistake),
    /// Neither the file nor a flag says which host this is.
    #[error("nothing says which host this is")]
    NoHost,
}

/// What is wrong with options, on one line; the library's own text is a picture of several.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Mistake {
    /// In a line of a file.
    #[error("line {line}: {what}")]
    InLine {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Somewhere.
    #[error("{0}")]
    Somewhere(String),
}

impl Mistake {
    fn new(error: &toml::de::Error, text: &str) -> Self {
        let what = error.message().to_owned();
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => Self::InLine { line: 1 + before.matches('\n').count(), what },
            None => Self::Somewhere(what),
        }
    }
}

impl SettingsError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoHost => {
                Some("give --host NAME, as in `trestle host list`, or `host` under [agent] in the file")
            }
            Self::Parse { .. } | Self::Agent(_) => {
                Some("`trestle server --print-config` prints every option with its meaning")
            }
            Self::Read { .. } => None,
        }
    }
}

/// Reads the named file; if none is named, the default one where it exists.
pub(crate) fn load(named: Option<&Path>) -> Result<Settings, SettingsError> {
    let path = named.unwrap_or(Path::new(DEFAULT_PATH)).to_owned();
    if named.is_none() && !path.exists() {
        return Ok(Settings::default());
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(SettingsError::Read { path, source }),
    };
    toml::from_str(&text).map_err(|error| SettingsError::Parse { path, source: Mistake::new(&error, &text) })
}

/// The agent's options: those of the file, over which the flags have won.
pub(crate) fn agent_config(options: toml::Table) -> Result<AgentConfig, SettingsError> {
    if !options.contains_key("host") {
        return Err(SettingsError::NoHost);
    }
    options.try_into().map_err(|error| SettingsError::Agent(Mistake::new(&error, "")))
}

/// One option, as `--print-config` explains it.
struct OptionText {
    name: &'static str,
    /// What it means.
    meaning: &'static str,
    /// What it is if it is not set, where that is not in the settings themselves.
    unset: &'static str,
}

const fn option(name: &'static str, meaning: &'static str, unset: &'static str) -> OptionText {
    OptionText { name, meaning, unset }
}

const SERVER: [OptionText; 32] = [
    option("state_dir", "The folder of the database, the first admin token and the local socket.", ""),
    option(
        "database",
        "sqlite:<path> or postgres://user@host/name. Several controllers may use one PostgreSQL\ndatabase. If not set: trestle.db in state_dir.",
        "\"sqlite:/var/lib/trestle/trestle.db\"",
    ),
    option(
        "listen",
        "Where to listen: address:port or unix:<path>. Beyond loopback it needs tls_cert and tls_key,\nor insecure. If not set: loopback, and trestle.sock in state_dir.",
        "[\"127.0.0.1:7117\", \"unix:/var/lib/trestle/trestle.sock\"]",
    ),
    option("tls_cert", "The certificate chain, PEM. If not set: plain HTTP.", "\"/etc/trestle/server.crt\""),
    option("tls_key", "The certificate's private key, PEM.", "\"/etc/trestle/server.key\""),
    option("insecure", "Allow plain HTTP beyond loopback, where tokens can be read on the way.", ""),
    option("network_type", "The type of networks that name none: vlan, flat_dhcp or flat.", ""),
    option(
        "multi_host",
        "Whether every host with an instance routes for a network that does not say. If not, one host\ndoes for all.",
        "",
    ),
    option(
        "share_address",
        "Whether all hosts have the same gateway address on a multi-host network that does not say.\nIf not, each takes one of its own from the network.",
        "",
    ),
    option("vlan_start", "Where to begin to look for free VLAN ids.", ""),
    option(
        "network_size",
        "How many IPv4 addresses each of several networks has that are made at once without a size,\nif their range has that many.",
        "",
    ),
    option(
        "quota_networks",
        "How many networks a project may own that has no quota of its own; -1 for no limit.",
        "",
    ),
    option("quota_fixed_ips", "How many fixed IPs its instances may have, in the same way.", ""),
    option("quota_floating_ips", "How many floating IPs it may have, in the same way.", ""),
    option("quota_security_groups", "How many security groups it may have, in the same way.", ""),
    option(
        "quota_security_group_rules",
        "How many rules each of its security groups may have, in the same way.",
        "",
    ),
    option(
        "security_group_default_rules",
        "What the security group `default` of each new project allows, besides that its members reach\neach other and everybody: [\"ingress tcp 22 from 10.0.0.0/8\", \"ingress icmp type 8\"].",
        "",
    ),
    option(
        "flat_network_bridge",
        "The bridge of networks of the types flat_dhcp and flat that name none. If not set: each must\nname one.",
        "\"br100\"",
    ),
    option("dhcp_domain", "The DNS domain of networks that name none.", ""),
    option(
        "dhcp_lease_time",
        "How long a DHCP lease holds, in seconds; fixed for a network when it is made.",
        "",
    ),
    option("dmz_cidr", "Ranges that instances reach without source NAT.", ""),
    option(
        "force_snat_range",
        "Ranges that instances reach by source NAT, whatever device leads there and whatever dmz_cidr\nsays.",
        "",
    ),
    option(
        "metadata_host",
        "The machine of the metadata service, a name or an address: what instances ask\n169.254.169.254 reaches it. If not set: nobody answers there.",
        "\"10.0.0.5\"",
    ),
    option("metadata_port", "Its TCP port.", ""),
    option(
        "force_dhcp_release",
        "Whether an address given back may be given out again as soon as its host has ended the\nlease. If not, only fixed_ip_disassociate_timeout counts.",
        "",
    ),
    option(
        "fixed_ip_disassociate_timeout",
        "After how many seconds an address given back may be given out again, whatever its host says.",
        "",
    ),
    option(
        "vpn_ip",
        "The address that clients of VPNs send to that name none. If not set: a floating IP is reserved\nfor each.",
        "\"203.0.113.1\"",
    ),
    option("vpn_start", "Where to begin to look for a free UDP port of that address.", ""),
    option(
        "vpn_autostart",
        "Whether a project gets a VPN with the first instance that is plugged in on a network of its own.",
        "",
    ),
    option("vpn_user_days", "For how many days a VPN's user is let in, unless told otherwise.", ""),
    option(
        "secret_key_file",
        "The file of the key that the private keys of VPNs are kept encrypted with, made when it is first\nneeded. All controllers of one database need the same. If not set: secret.key in state_dir.",
        "\"/var/lib/trestle/secret.key\"",
    ),
    option(
        "address_history_days",
        "For how many days it is kept who had which address, after it was over; 0 for ever.",
        "",
    ),
];

const AGENT: [OptionText; 6] = [
    option("host", "The name of this host, as the controller knows it. There is no default.", "\"kvm1\""),
    option(
        "controller",
        "Where the controller is: http://host:port, https://host:port or unix:<path>.",
        "\"http://127.0.0.1:7117\"",
    ),
    option(
        "token_file",
        "The file with this host's token. If not set: agent.token in state_dir.",
        "\"/var/lib/trestle-agent/agent.token\"",
    ),
    option(
        "ca",
        "With https, the only certificate authorities to trust, PEM. If not set: the system's.",
        "\"/etc/trestle/ca.crt\"",
    ),
    option(
        "state_dir",
        "The folder of the agent's ledger, its socket and the files of every dnsmasq.",
        "\"/var/lib/trestle-agent\"",
    ),
    option(
        "metadata_secret_file",
        "The file with the secret by which the metadata service knows that it is told of instances by\nan agent. If not set: instances are not signed for.",
        "\"/etc/trestle/metadata.secret\"",
    ),
];

/// The settings as a file that gives the same settings, every option with its meaning. What is not
/// set is a comment.
pub(crate) fn print(settings: &Settings) -> Result<String, toml::ser::Error> {
    let server = toml::Table::try_from(&settings.server)?;
    Ok(format!("{}\n{}", table("server", &SERVER, &server), table("agent", &AGENT, &settings.agent)))
}

fn table(name: &str, options: &[OptionText], values: &toml::Table) -> String {
    let mut text = format!("[{name}]\n");
    for OptionText { name, meaning, unset } in options {
        text.push('\n');
        for line in meaning.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        match values.get(*name) {
            Some(value) => text.push_str(&format!("{name} = {value}\n")),
            None => text.push_str(&format!("#{name} = {unset}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_option_is_explained() {
        let server = ControllerConfig {
            database: Some("sqlite:x".into()),
            listen: Some(vec!["127.0.0.1:1".into()]),
            tls_cert: Some("a".into()),
            tls_key: Some("b".into()),
            flat_network_bridge: Some("br0".parse().unwrap()),
            metadata_host: Some("meta".parse().unwrap()),
            vpn_ip: Some("192.0.2.1".parse().unwrap()),
            secret_key_file: Some("c".into()),
            ..ControllerConfig::default()
        };
        let agent = AgentConfig {
            token_file: Some("a".into()),
            ca: Some("b".into()),
            metadata_secret_file: Some("c".into()),
            ..AgentConfig::new("kvm1")
        };
        check(&SERVER, toml::Table::try_from(server).unwrap());
        check(&AGENT, toml::Table::try_from(agent).unwrap());

        fn check(options: &[OptionText], values: toml::Table) {
            let explained: BTreeSet<&str> = options.iter().map(|option| option.name).collect();
            assert_eq!(explained, values.keys().map(String::as_str).collect());
        }
    }

    #[test]
    fn what_is_printed_gives_the_same_settings() {
        let text = print(&Settings::default()).unwrap();
        let again: Settings = toml::from_str(&text).unwrap();
        assert_eq!(again.server, ControllerConfig::default());
        assert!(again.agent.is_empty());
    }

    #[test]
    fn what_is_printed_as_a_comment_is_an_option_too() {
        let text = print(&Settings::default()).unwrap();
        let is_option = |line: &&str| !line.starts_with("# ");
        let all: Vec<&str> =
            text.lines().filter(is_option).map(|line| line.trim_start_matches('#')).collect();
        let settings: Settings = toml::from_str(&all.join("\n")).unwrap();
        agent_config(settings.agent).unwrap();
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = toml::from_str::<Settings>("[server]\nflat_bridge = \"br0\"\n").unwrap_err();
        assert!(error.message().starts_with("unknown field `flat_bridge`"), "{error}");
    }
}
