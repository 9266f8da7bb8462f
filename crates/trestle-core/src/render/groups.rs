//! The chains of security groups, and their rules as text for nft.

use super::chain_in;
use crate::spec::Set;
use crate::types::{Direction, Family, IcmpType, IpProtocol};
use crate::world::{Rule, Traffic};

/// `inet trestle_groups`. What is passed on to and from guests by the networks that they are on and by their
/// security groups: what is routed, and what is bridged, too, on bridges whose packets come here
/// (`Key::BridgeFilter`).
///
/// `isolation`: a network is reached from itself, from the other networks of its project, by a floating IP and
/// by answers; one of type VLAN by nobody else (reference MG-131), any other from outside too. Who asks for
/// metadata is answered by the host itself; of anybody else's requests, and of the whole range, nothing is routed
/// (RFC 3927 §2.7): a host that is itself a guest of some cloud would hand its own out. `home*`: an address of a
/// network passes by the bridges of its project alone, so nobody begins a connection with it, or in its name, where the
/// isolation of another bridge would not be asked: what is stamped is stamped for one way. `released`: what
/// neighbours go on sending here for a floating IP that has just left is not passed on to where it came from;
/// hosts that it was on one after the other would pass it round.
///
/// Guests are told by their addresses, which their guard holds them to, and a connection by what it was
/// when it began: who began it (`ct original`) and where it really leads (`ct reply`). So each packet of one
/// can be judged, an answer too, and none has to be believed because of its state.
///
/// An address leads to a mark that stands for the groups of its guest, and that to their rules: one more guest is
/// one more element that leads to no chain, because kernels walk through all that elements lead to whenever
/// there is one more. While a packet is judged its own mark is what has been said of it: whose rules are
/// to be asked ([`IN_GROUPS`]), or that they let it pass ([`PASSES`], [`PASSES_NOW`]). What is said of the sender ends
/// before the receiver is asked for, so what is let pass for now alone goes on by a way of its own.
///
/// A connection that was judged is stamped with the number of that judgement and goes on by it, past all of
/// this. With a new number, which comes whenever something goes that may have allowed one
/// (`Step::JudgeAnew`, [`judgement`]), each is judged once more by its next packet. The number stands in
/// rules, not in a set, and all is one chain to the kernel: a chain sees the rules of when it was entered, but sets as
/// they are, and what was judged by rules that are gone must not get the number of those that came. What
/// only a rule with an end allows is never stamped, so it ends with its rule, whoever is away. It is the way that a
/// connection began that is stamped: an answer may be let pass by another rule, and an error that quotes
/// a connection by one about errors.
///
/// `remote*`: guests on other hosts that this one routes for have no more of it than its own.
///
/// Neighbours find each other whatever the groups say, on their link alone (RFC 4861 §7.1), and say to many
/// what they listen to: such messages to anybody else could carry whatever one likes. DHCP, DNS and metadata
/// are had from the gateway. The host itself is not held to groups; guests have nothing of it but these.
///
/// What is sent to many is judged for each guest that would hear it, by the mark that its port has given it
/// (`heard_by`): for the receiver first, whose mark goes with that. A frame to many may be a packet to one, so
/// that is asked for, too. None of it is ever stamped, nor does it go by what is: the same packet may come in a frame
/// to one before.
pub(super) const GROUPS: &str = r"table inet trestle_groups {
	set network {
		type ifname
	}
	set private {
		type ifname
	}
	set routed {
		type ifname . ifname
	}
	set released {
		type ifname . ipv4_addr
		flags timeout
	}
	set released6 {
		type ifname . ipv6_addr
		flags timeout
	}
	set subnet4 {
		type ipv4_addr
		flags interval
	}
	set subnet6 {
		type ipv6_addr
		flags interval
	}
	set home4 {
		type ipv4_addr . ifname
		flags interval
	}
	set home6 {
		type ipv6_addr . ifname
		flags interval
	}
	map groups4 {
		type ipv4_addr : mark
	}
	map groups6 {
		type ipv6_addr : mark
	}
	set remote4 {
		type ipv4_addr
	}
	set remote6 {
		type ipv6_addr
	}
	map egress {
		type mark : verdict
	}
	map ingress {
		type mark : verdict
	}
	set served4 {
		type ifname . ipv4_addr
	}
	set served6 {
		type ifname . ipv6_addr
	}
	set metadata_from {
		type ifname
	}
	chain isolation {
		iifname . ip daddr @released drop
		iifname . ip6 daddr @released6 drop
		iifname @network ip saddr @subnet4 ip saddr . iifname != @home4 drop
		iifname @network ip6 saddr @subnet6 ip6 saddr . iifname != @home6 drop
		oifname @network ip daddr @subnet4 ip daddr . oifname != @home4 drop
		oifname @network ip6 daddr @subnet6 ip6 daddr . oifname != @home6 drop
		iifname @network ip daddr 169.254.0.0/16 drop
		ct state established,related return
		ct status dnat return
		iifname . oifname @routed return
		oifname @private drop
		iifname @network oifname @network drop
	}
	chain neighbours {
		ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit accept
		ip6 hoplimit 255 icmpv6 type nd-neighbor-advert accept
		ip6 hoplimit 255 icmpv6 type nd-router-solicit accept
		ip6 hoplimit 255 icmpv6 type nd-router-advert accept
		ip6 daddr ff00::/8 icmpv6 type mld-listener-query accept
		ip6 daddr ff00::/8 icmpv6 type mld-listener-report accept
		ip6 daddr ff00::/8 icmpv6 type mld-listener-done accept
		ip6 daddr ff00::/8 icmpv6 type mld2-listener-report accept
		ip daddr 224.0.0.0/4 meta l4proto igmp accept
	}
	chain from_guest {
		jump neighbours
		iifname . ct original ip daddr @served4 meta l4proto udp ct original proto-dst 53 return
		iifname . ct original ip daddr @served4 meta l4proto tcp ct original proto-dst 53 return
		iifname . ct original ip6 daddr @served6 meta l4proto udp ct original proto-dst 53 return
		iifname . ct original ip6 daddr @served6 meta l4proto tcp ct original proto-dst 53 return
		iifname @metadata_from ct original ip daddr 169.254.169.254 meta l4proto tcp ct original proto-dst 80 return
		udp sport 68 udp dport 67 return
		udp sport 546 udp dport 547 return
		meta mark set ct original ip saddr map @groups4 goto judge_sender
		meta mark set ct original ip6 saddr map @groups6 goto judge_sender
		ct state invalid,untracked meta mark set ip saddr map @groups4 drop
		ct state invalid,untracked meta mark set ip6 saddr map @groups6 drop
	}
	chain judge_sender {
		meta mark vmap @egress
		meta mark & 0xfffffffe != 0x7e570002 drop
	}
	chain to_guest {
		jump neighbours
		udp sport 67 udp dport 68 return
		udp sport 547 udp dport 546 return
		meta mark set ct reply ip saddr map @groups4 goto judge_receiver
		meta mark set ct reply ip6 saddr map @groups6 goto judge_receiver
		ct state invalid,untracked meta mark set ip daddr map @groups4 drop
		ct state invalid,untracked meta mark set ip6 daddr map @groups6 drop
	}
	chain judge_receiver {
		meta mark vmap @ingress
		meta mark & 0xfffffffe != 0x7e570002 drop
	}
	chain to_many {
		meta mark vmap @ingress
		meta mark & 0xc0000000 == 0x80000000 drop
		jump from_guest
		jump to_guest
		meta mark & 0xfffffffe == 0x7e570002 goto pass
	}
	chain for_now {
		jump to_guest
		goto pass
	}
	chain pass {
		meta mark set 0x00000000
		accept
	}
	chain stamp {
		goto pass
	}
	chain judge {
		jump isolation
		meta pkttype multicast goto to_many
		meta pkttype broadcast goto to_many
		jump from_guest
		meta mark 0x7e570003 goto for_now
		jump to_guest
		meta mark 0x7e570003 goto pass
		ct direction original ct state != related meta mark 0x7e570002 goto stamp
		meta mark 0x7e570002 goto pass
	}
	chain forward {
		type filter hook forward priority filter - 10; policy accept;
		goto judge
	}
	chain host {
		meta mark set 0x00000000
		meta l4proto icmp accept
		meta l4proto ipv6-icmp accept
		meta l4proto igmp accept
		udp dport 67 accept
		udp dport 547 accept
		iifname . ip daddr @served4 udp dport 53 accept
		iifname . ip daddr @served4 tcp dport 53 accept
		iifname . ip6 daddr @served6 udp dport 53 accept
		iifname . ip6 daddr @served6 tcp dport 53 accept
		ct status dnat accept
		drop
	}
	chain input {
		type filter hook input priority filter - 10; policy accept;
		ct state established,related accept
		meta mark set ip saddr map @groups4 goto host
		meta mark set ip6 saddr map @groups6 goto host
		ip saddr @remote4 jump host
		ip6 saddr @remote6 jump host
		meta mark 0x7e570001 jump host
	}
}
";

/// What tells marks that stand for groups from all others: the two highest bits.
pub(crate) const IN_GROUPS: u32 = 0x8000_0000;
/// The mark of what a rule lets pass, which its chain gives it.
const PASSES: &str = "0x7e570002";
/// The same of a rule with an end.
const PASSES_NOW: &str = "0x7e570003";

/// The rules, by chain, that stand for a judgement in place of those that the table's text has there.
/// `random`: makes its number one that no judgement had before, as far as chance can tell: connections keep
/// theirs when the table is made anew.
pub fn judgement(random: u32) -> [(&'static str, Vec<String>); 2] {
    let number = format!("0x{:08x}", random | 1);
    let after = |first: String, chain| {
        let rules = chain_in(GROUPS, chain).into_iter().flatten().map(str::to_owned);
        (chain, [first].into_iter().chain(rules).collect())
    };
    [
        after(format!("ct mark {number} meta pkttype host accept"), "forward"),
        after(format!("ct mark set {number}"), "stamp"),
    ]
}

/// The rules of a combination of groups, from those of the groups: `jump to_7`. The first one that lets it pass
/// decides.
pub fn combination(chains: impl Iterator<Item = String>) -> String {
    let one = |chain| format!("jump {chain}\nmeta mark & 0xfffffffe == {PASSES} return\n");
    chains.map(one).chain(["drop".to_owned()]).collect()
}

/// The command of nft that makes a set of a group, if it is not there.
pub fn set_command(set: Set) -> String {
    let kind = match set {
        Set::Members6(_) => "type ipv6_addr;",
        Set::Addresses4(_) => "type ipv4_addr; flags interval;",
        Set::Addresses6(_) => "type ipv6_addr; flags interval;",
        _ => "type ipv4_addr;",
    };
    format!("add set {} {} {} {{ {kind} }}", set.table().family(), set.table().name(), set.name())
}

/// A rule of a security group as text for nft: a line, or two, of one of which an answer is one. `remote` is a
/// range or a set of this family, or empty for anybody.
///
/// What is asked is how a connection began; of ICMP there is the message alone, and an answer to one has
/// a type of its own (RFC 792, RFC 4443 §4.2).
pub fn rule(rule: &Rule, family: Family, remote: &str) -> Vec<String> {
    let (nfproto, ip) = match family {
        Family::Ipv4 => ("ipv4", "ip"),
        Family::Ipv6 => ("ipv6", "ip6"),
    };
    let (who, port) = match rule.direction {
        Direction::Ingress => ("saddr", "ct reply proto-src"),
        Direction::Egress => ("daddr", "ct original proto-dst"),
    };
    let mut begin = vec![format!("meta nfproto {nfproto}")];
    if !remote.is_empty() {
        begin.push(format!("ct original {ip} {who} {remote}"));
    }
    let protocol = |protocol: IpProtocol| format!("meta l4proto {}", protocol.number());
    let traffics = match rule.traffic {
        Traffic::Any => vec![Vec::new()],
        Traffic::Protocol(number) => vec![vec![protocol(number)]],
        Traffic::Ports(number, ports) => vec![vec![protocol(number), format!("{port} {ports}")]],
        Traffic::Icmp(number, icmp) => icmp_matches(number, icmp),
    };
    let mut end = Vec::new();
    end.extend(rule.expires_at.map(|at| format!("meta time < {at}")));
    let passes = if rule.expires_at.is_some() { PASSES_NOW } else { PASSES };
    end.push(format!("counter meta mark set {passes} return comment \"rule {}\"", rule.number));
    let line = |traffic: Vec<String>| [&begin[..], &traffic, &end].concat().join(" ");
    traffics.into_iter().map(line).collect()
}

/// The message itself, and the answer to it.
fn icmp_matches(protocol: IpProtocol, icmp: IcmpType) -> Vec<Vec<String>> {
    const ANSWERS: [(IpProtocol, u8, u8); 5] = [
        (IpProtocol::ICMP, 8, 0),
        (IpProtocol::ICMP, 13, 14),
        (IpProtocol::ICMP, 15, 16),
        (IpProtocol::ICMP, 17, 18),
        (IpProtocol::ICMPV6, 128, 129),
    ];
    let word = if protocol == IpProtocol::ICMP { "icmp" } else { "icmpv6" };
    let mut message = vec![format!("{word} type {}", icmp.number)];
    message.extend(icmp.code.map(|code| format!("{word} code {code}")));
    let answer = ANSWERS.into_iter().find(|(of, asked, _)| (*of, *asked) == (protocol, icmp.number));
    let answer =
        answer.map(|(_, _, answer)| vec!["ct direction reply".to_owned(), format!("{word} type {answer}")]);
    [message].into_iter().chain(answer).collect()
}
