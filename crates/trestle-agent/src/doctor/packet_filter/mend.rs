//! Whose rules they are, and how those let something pass.

use std::fmt;

use trestle_core::ownership::DEVICE_PREFIX;

use super::passages::{Passage, Way};
use crate::doctor::rules::{Table, TableName, Tool};

/// A chain of somebody else's, and who that is.
#[derive(Debug)]
pub(super) struct Firewall<'a> {
    owner: Option<Owner>,
    /// Whose chains are there too: they know how to let something pass.
    table: &'a TableName,
    tool: Tool,
    base: &'a str,
}

/// Programs that make rules, known by the names of their tables and chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Firewalld,
    Ufw,
    Docker,
    Libvirt,
    Kubernetes,
}

/// What names of chains begin with. ufw comes before Docker: its rules stay over a boot.
const CHAINS: [(&str, Owner); 4] = [
    ("ufw", Owner::Ufw),
    ("DOCKER-USER", Owner::Docker),
    ("LIBVIRT_", Owner::Libvirt),
    ("KUBE-", Owner::Kubernetes),
];

impl<'a> Firewall<'a> {
    /// By the table's name, else by the chains that packets come to from this one.
    pub(super) fn of(table: &'a TableName, chains: &'a Table, base: &'a str) -> Self {
        let reached = chains.reached_from(base);
        let is_there = |prefix: &str| reached.iter().any(|chain| chain.starts_with(prefix));
        let owner = match table.name.as_str() {
            "firewalld" => Some(Owner::Firewalld),
            _ => CHAINS.iter().find(|(prefix, _)| is_there(prefix)).map(|(_, owner)| *owner),
        };
        let tool = chains.chains.get(base).map(|chain| chain.tool).unwrap_or_default();
        Self { owner, table, tool, base }
    }

    /// What to do, in words.
    pub(super) fn mend(&self) -> &'static str {
        match self.owner {
            Some(Owner::Firewalld | Owner::Ufw) => "let it pass; this stays over a boot",
            _ => "let it pass, and put that where these rules are loaded at boot",
        }
    }

    /// The commands that let these packets pass.
    pub(super) fn commands(&self, dropped: &[&Passage]) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        for command in dropped.iter().flat_map(|passage| self.command(passage)) {
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        if self.owner == Some(Owner::Firewalld) {
            commands.push("firewall-cmd --reload".to_owned());
        }
        commands
    }

    fn command(&self, passage: &Passage<'_>) -> Vec<String> {
        let bridge = passage.bridge;
        let is_input = passage.way.is_to_host();
        let comes_in = matches!(passage.way, Way::Leaves | Way::Bridged) || is_input;
        match (self.owner, self.tool) {
            (Some(Owner::Firewalld), _) => {
                vec![format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}")]
            }
            (Some(Owner::Ufw), _) if is_input => vec![format!("ufw allow in on {bridge}")],
            (Some(Owner::Ufw), _) if comes_in => vec![format!("ufw route allow in on {bridge}")],
            (Some(Owner::Ufw), _) => vec![format!("ufw route allow out on {bridge}")],
            (owner, Tool::Iptables(program)) => {
                let chain = if owner == Some(Owner::Docker) { "DOCKER-USER" } else { self.base };
                let side = if comes_in { "-i" } else { "-o" };
                vec![format!("{program} -I {chain} {side} {bridge} -j ACCEPT")]
            }
            (owner, Tool::Nft) => {
                let chain = if owner == Some(Owner::Docker) { "DOCKER-USER" } else { self.base };
                self.insert(chain, passage, comes_in)
            }
        }
    }

    fn insert(&self, chain: &str, passage: &Passage<'_>, comes_in: bool) -> Vec<String> {
        let TableName { family, name, .. } = self.table;
        let rule =
            |condition: String| format!("nft 'insert rule {family} {name} {chain} {condition} accept'");
        if passage.is_frame {
            // The ports of a bridge come and go.
            let sides = ["iifname", "oifname"];
            return sides.map(|side| rule(format!(r#"{side} "{DEVICE_PREFIX}*""#))).into();
        }
        let side = if comes_in { "iifname" } else { "oifname" };
        vec![rule(format!(r#"{side} "{}""#, passage.bridge))]
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Docker => "Docker",
            Self::Libvirt => "libvirt",
            Self::Kubernetes => "Kubernetes",
        })
    }
}

impl fmt::Display for Firewall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, table, base, .. } = self;
        match owner {
            Some(owner) => write!(f, "{owner}'s chain {base} of {table}"),
            None => write!(f, "chain {base} of {table}"),
        }
    }
}
