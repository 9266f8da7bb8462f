//! The text that nftables and dnsmasq are given.
//!
//! The chains are fixed: everything that is per instance or per network is an element of a named
//! set, so that neither a packet nor an attach costs more the more instances there are, and no
//! anonymous set is ever made (creating sets is quadratic in the kernel).

use crate::spec::Table;
use crate::types::Cidr;
use crate::world::Network;

/// `bridge trestle`. The prefix matches every device of ours, so one without elements passes
/// nothing: the guard fails closed. What is not allowed below is dropped, IPv6 and router
/// advertisements among it. Tags are named, because the kernel takes a frame's tag off before it
/// asks what is inside. A packet is accepted only if the kernel finds its protocol: with a header
/// that is not right it would find no port to refuse. Frames to the reserved group addresses of
/// IEEE 802.1D §7.12.6 pass prerouting by and go to the host alone, which would learn their sender
/// and read them: they are dropped at the input hook.
const GUARD: &str = r#"table bridge trestle {
	set guard_mac {
		type ifname . ether_addr
	}
	set guard_ip4 {
		type ifname . ether_addr . ipv4_addr
	}
	chain from_instance {
		ether type 8021q drop
		ether type 8021ad drop
		iifname . ether saddr != @guard_mac drop
		ip saddr 0.0.0.0 ip daddr 255.255.255.255 ip frag-off & 0x1fff == 0 udp sport 68 udp dport 67 accept
		ip frag-off & 0x1fff == 0 udp sport 67 drop
		iifname . ether saddr . ip saddr @guard_ip4 meta l4proto != 255 accept
		iifname . arp saddr ether . arp saddr ip @guard_ip4 accept
		iifname . arp saddr ether @guard_mac arp saddr ip 0.0.0.0 arp operation request accept
		drop
	}
	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname "tr-*" jump from_instance
	}
	chain input {
		type filter hook input priority -300; policy accept;
		iifname "tr-*" ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop
	}
}
"#;

/// `inet trestle`. Exempt ranges come first (`dmz_cidr`, reference LX-38).
const GATEWAY: &str = r"table inet trestle {
	set nat_source {
		type ipv4_addr . ifname
		flags interval
	}
	set nat_exempt {
		type ipv4_addr . ipv4_addr
		flags interval
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr . ip daddr @nat_exempt accept
		ip saddr . oifname @nat_source masquerade
	}
}
";

/// The text of a table: its sets and chains, without elements.
pub fn ruleset(table: Table) -> String {
    match table {
        Table::Guard => GUARD.to_owned(),
        Table::Gateway => GATEWAY.to_owned(),
    }
}

/// A range as nft prints it back: one address has no prefix length.
pub fn range(cidr: Cidr) -> String {
    match cidr.net().prefix_len() {
        32 => cidr.net().addr().to_string(),
        _ => cidr.to_string(),
    }
}

/// The arguments of a network's dnsmasq; `%S` stands for the host's state folder.
///
/// It is bound to its bridge alone: without `--interface` several on one host steal each other's
/// renewals and releases (reference LX-66). It never chooses an address: the range is `static` and
/// an unknown MAC is ignored. Leases go by MAC whatever client id a guest sends.
pub fn dnsmasq_arguments(network: &Network) -> Vec<String> {
    let folder = format!("%S/networks/{}", network.name);
    let net = network.cidr.net();
    let lease_max = (1u64 << (32 - net.prefix_len())).min(1 << 20);
    let mut arguments = vec![
        "--keep-in-foreground".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        format!("--pid-file={folder}/pid"),
        "--log-facility=-".to_owned(),
        "--bind-dynamic".to_owned(),
        format!("--interface={}", network.bridge),
        "--except-interface=lo".to_owned(),
        "--no-hosts".to_owned(),
        format!("--hostsdir={folder}/dns-names"),
        format!("--domain={}", network.domain),
        format!("--local=/{}/", network.domain),
        format!("--dhcp-range={},static,{},{}s", net.network(), net.netmask(), network.dhcp_lease_time),
        format!("--dhcp-hostsdir={folder}/dhcp-hosts"),
        "--dhcp-ignore=tag:!known".to_owned(),
        "--dhcp-ignore-clid".to_owned(),
        "--dhcp-authoritative".to_owned(),
        "--no-ping".to_owned(),
        format!("--dhcp-leasefile={folder}/leases"),
        format!("--dhcp-lease-max={lease_max}"),
        format!("--dhcp-option=option:router,{}", network.gateway),
        format!("--dhcp-option=option:dns-server,{}", network.gateway),
        format!("--dhcp-option=option:mtu,{}", network.mtu),
    ];
    if !network.dns.is_empty() {
        arguments.push("--no-resolv".to_owned());
        arguments.extend(network.dns.iter().map(|server| format!("--server={server}")));
    }
    arguments
}
