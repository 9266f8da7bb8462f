//! What one host has, and what its chains make of a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Problem;
use super::frame::Frame;
use super::line::{self, Applied, Misunderstood, Ruling};
use crate::compile::compile;
use crate::render;
use crate::spec::{Key, LinkMac, Object, Table};
use crate::types::{Family, LinkName, Mac};
use crate::world::{Host, World};

/// A host as it is compiled, by which alone is judged.
pub(super) struct HostView<'a> {
    pub(super) host: &'a Host,
    pub(super) objects: BTreeMap<Key, Object>,
    /// The addresses that are its own besides those in its spec, where it said so.
    pub(super) own: Option<&'a BTreeSet<IpAddr>>,
}

/// What a chain made of a packet.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) ruling: Ruling,
    /// The rule that decided; nothing where none did, and the packet passes.
    pub(super) by: Option<Decisive>,
}

/// The rule that decided.
#[derive(Clone, Debug)]
pub(super) struct Decisive {
    pub(super) chain: String,
    pub(super) line: String,
    pub(super) key: Option<Key>,
    /// Its number, if it is one of a security group.
    pub(super) rule: Option<u32>,
}

/// What is known before a chain has decided.
#[derive(Default)]
struct SoFar {
    /// A rule that may have let the packet pass.
    doubt: Option<Problem>,
    /// The rule that let it go back from where it was asked for.
    by: Option<Decisive>,
}

impl<'a> HostView<'a> {
    pub(super) fn new(world: &World, host: &'a Host, own: Option<&'a BTreeSet<IpAddr>>) -> Self {
        Self { host, objects: compile(world, host.id), own }
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// Asks a chain that the kernel begins with, or one that it comes to. A table that is not there lets everything
    /// pass.
    pub(super) fn ask(&self, table: Table, chain: &str, frame: &mut Frame) -> Result<Decision, Problem> {
        let mut so_far = SoFar::default();
        let asked = match self.objects.get(&Key::Ruleset(table)) {
            Some(Object::Ruleset(text)) => self.follow(text, chain, frame, &mut so_far)?,
            _ => None,
        };
        let decision = asked.unwrap_or(Decision { ruling: Ruling::Accept, by: so_far.by });
        // What may have been let pass before it was let pass is let pass.
        match so_far.doubt.filter(|_| decision.ruling != Ruling::Accept) {
            Some(problem) => Err(problem),
            None => Ok(decision),
        }
    }

    /// A rule that may let it pass is passed over as if it did not, and kept as a doubt.
    fn follow(
        &self,
        ruleset: &str,
        name: &str,
        frame: &mut Frame,
        so_far: &mut SoFar,
    ) -> Result<Option<Decision>, Problem> {
        for line in self.chain(ruleset, name)? {
            let misunderstood = |Misunderstood| self.misunderstood(name, line);
            let mark = frame.mark;
            let Some(applied) = line::follow(line, frame, &self.objects).map_err(misunderstood)? else {
                continue;
            };
            let of_group = applied.rule.is_some() && applied.ruling == Ruling::Return;
            if applied.is_in_doubt && applied.ruling != Ruling::GoOn {
                let problem = self.unknown_source(name, line);
                if applied.ruling != Ruling::Accept && !of_group {
                    return Err(problem);
                }
                frame.mark = mark;
                so_far.doubt.get_or_insert(problem);
                continue;
            }
            match applied.ruling.clone() {
                Ruling::GoOn => {}
                Ruling::Jump(next) => {
                    if let Some(decision) = self.follow(ruleset, &next, frame, so_far)? {
                        return Ok(Some(decision));
                    }
                }
                Ruling::Goto(next) => return self.follow(ruleset, &next, frame, so_far),
                Ruling::Return => {
                    // A combination of groups goes back by what the rule before has said.
                    if so_far.by.is_none() {
                        so_far.by = Some(self.decisive(name, line, applied));
                    }
                    return Ok(None);
                }
                ruling => {
                    return Ok(Some(Decision { ruling, by: Some(self.decisive(name, line, applied)) }));
                }
            }
        }
        Ok(None)
    }

    fn decisive(&self, chain: &str, line: &str, applied: Applied) -> Decisive {
        let of_group = Key::Chain(chain.to_owned());
        let key = applied.element.or(Some(of_group).filter(|key| self.has(key)));
        Decisive { chain: chain.to_owned(), line: line.to_owned(), key, rule: applied.rule }
    }

    fn misunderstood(&self, chain: &str, line: &str) -> Problem {
        let (chain, line) = (chain.to_owned(), line.to_owned());
        Problem::Misunderstood { host: self.host.name.clone(), chain, line }
    }

    fn unknown_source(&self, chain: &str, line: &str) -> Problem {
        let (chain, line) = (chain.to_owned(), line.to_owned());
        Problem::UnknownSource { host: self.host.name.clone(), chain, line }
    }

    /// The rules of a chain: one of a security group's, or one of the table's text.
    fn chain<'t>(&'t self, ruleset: &'t str, name: &str) -> Result<Vec<&'t str>, Problem> {
        if let Some(Object::Chain(rules)) = self.objects.get(&Key::Chain(name.to_owned())) {
            return Ok(rules.lines().collect());
        }
        let no_chain = || Problem::NoChain { host: self.host.name.clone(), chain: name.to_owned() };
        render::chain_in(ruleset, name).ok_or_else(no_chain)
    }

    /// The device that a bridge leads to other hosts by. A flat network's is the administrator's.
    pub(super) fn uplink(&self, bridge: &LinkName) -> Option<&LinkName> {
        match self.objects.get(&Key::Link(bridge.clone())) {
            Some(Object::Link(link)) => link.uplink.as_ref(),
            _ => None,
        }
    }

    /// The MAC that a bridge sends from, where the spec says which.
    pub(super) fn bridge_mac(&self, bridge: &LinkName) -> Option<Mac> {
        match self.objects.get(&Key::Link(bridge.clone())) {
            Some(Object::Link(link)) => match link.mac {
                Some(LinkMac::Fixed(mac) | LinkMac::Gateway { mac, .. }) => Some(mac),
                _ => None,
            },
            _ => None,
        }
    }

    /// The device that this address of the host's own is on.
    pub(super) fn has_address(&self, address: IpAddr) -> Option<(&Key, &LinkName)> {
        self.addresses().find(|(_, _, net)| net.addr() == address).map(|(key, link, _)| (key, link))
    }

    /// Whether the address is the host's, be it by its spec or by what it said; `None` if that cannot be known.
    pub(super) fn is_its_own(&self, address: IpAddr) -> Option<bool> {
        match (self.has_address(address), self.own) {
            (Some(_), _) => Some(true),
            (None, own) => own.map(|own| own.contains(&address)),
        }
    }

    /// The device whose range the address lies in: the narrowest one.
    pub(super) fn route_to(&self, address: IpAddr) -> Option<(&Key, &LinkName)> {
        let on_link = self.addresses().filter(|(_, _, net)| net.contains(&address));
        let narrowest = on_link.max_by_key(|(_, _, net)| net.prefix_len());
        narrowest.map(|(key, link, _)| (key, link))
    }

    /// The host's own address on a device, of the family of this one.
    pub(super) fn address_on(&self, device: &LinkName, like: IpAddr) -> Option<IpAddr> {
        let own = self
            .addresses()
            .filter(|(_, link, net)| *link == device && net.addr().is_ipv4() == like.is_ipv4());
        own.map(|(_, _, net)| net.addr()).next()
    }

    fn addresses(&self) -> impl Iterator<Item = (&Key, &LinkName, &ipnet::IpNet)> {
        self.objects.keys().filter_map(|key| match key {
            Key::Address(link, net) => Some((key, link, net)),
            _ => None,
        })
    }

    /// Whether it passes on what is not for itself.
    pub(super) fn forwards(&self, family: Family) -> bool {
        let name = match family {
            Family::Ipv4 => "net.ipv4.ip_forward",
            Family::Ipv6 => "net.ipv6.conf.all.forwarding",
        };
        self.has(&Key::Sysctl(name.to_owned()))
    }
}
