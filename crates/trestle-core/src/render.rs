//! The text that nftables and dnsmasq are given.
//!
//! The chains are fixed: everything that is per instance or per network is an element of a named
//! set, so that neither a packet nor an attach costs more the more instances there are, and no
//! anonymous set is ever made (creating sets is quadratic in the kernel).

mod groups;
mod vpn;

use std::net::IpAddr;

use crate::spec::Table;
use crate::types::{Cidr, Family, LinkName};
use crate::world::{Ipv6Mode, Network};
pub(crate) use groups::IN_GROUPS;
pub use groups::{combination, judgement, rule, set_command};
pub use vpn::{VPN_DEVICE, VpnPlace, vpn_mtu, vpn_settings};

/// `bridge trestle`. The prefix matches every device of ours, so one without elements passes
/// nothing: the guard fails closed. What is not allowed below is dropped. Tags are named, because
/// the kernel takes a frame's tag off before it asks what is inside. A packet is accepted only if
/// the kernel finds its protocol: with a header that is not right it would find no port to refuse.
/// Frames to the reserved group addresses of IEEE 802.1D §7.12.6 pass prerouting by and go to the
/// host alone, which would learn their sender and read them: they are dropped at the input hook.
///
/// A client of DHCP believes whoever writes to its port, from whichever port: only dnsmasq does. That in
/// turn believes what a client says of its MAC (RFC 2131 §2; 288 bits from the ports on) and what a relay
/// says of others (RFC 8415 §9): a guest asks for itself, and relays for nobody. It
/// may probe for its own addresses alone (RFC 5227 §2.1.1): who probes for another's denies it to it. ARP
/// of another kind has its addresses elsewhere.
///
/// In IPv6 a guest may say of its own addresses alone that they are its (RFC 4861 §7.2; the target
/// stands 64 bits into the message), and that they are at its own MACs (§4.6.1; 208 bits, or 80 where it
/// asks for routers), in one piece (RFC 6980) and with nothing besides: of two options nobody knows which
/// one is heeded. What is in a later piece is not found, and not found is not refused: so such a message is
/// accepted as it ought to be, or not at all. No guest advertises routes, redirects or asks who listens:
/// who asks is sent everything that others are (RFC 4541 §2.1.1).
///
/// What a host says in a guest's name, for a bridge to learn where it came to, does not reach the
/// guest: it would take its own address for a duplicate (RFC 4862 §5.4.4).
///
/// `gateway_mac`: a host that only bridges a network would take its gateway, on another host, for a
/// router of its own.
///
/// What is sent to a guest is sent to an address of its own, or to many; by its host, too, whose neighbours
/// remember an address that a guest has had. Of the latter the filter of
/// security groups, which is about routed packets, sees no port: it is told by a mark (`GROUPS`), and what
/// leads to no mark is not heard. A bridge makes a copy for each port, so each has its own.
///
/// Frames with a tag pass the filter of security groups by, so none reaches a guest, not even with the one that says
/// nothing (IEEE 802.1Q §6.9: a priority tag), which guests take for none.
///
/// Who has its guard turned off (`unguarded`) may send and is sent whatever there is. A guest that forwards
/// for others (`guard_range*`) says of none of their addresses that they are its own; that it came from a
/// guest all the same is told by a mark.
///
/// No packet says by which way it is to go (RFC 791 §3.1, RFC 5095). Of the options of IPv4 only a router
/// alert passes (RFC 2113, for IGMP): among options that make no sense to it, and two source routes make
/// none, the kernel finds nothing. Of routing headers it finds the first alone, so none passes, of
/// whichever type.
///
/// What nearly all packets are is asked for first: one that a guest sends from its own address and that no later
/// rule would refuse, and one to an address of another one's own, from a guest or from the host. Only what is plain passes there:
/// no tag, no options or further headers, no port of DHCP, no IGMP. A piece that is not a packet's first has no
/// port, so it is not plain. All others go the long way, which is the one that says what is allowed: what
/// is in front of it accepts nothing that it would drop. Ports are masked there because nft 1.0 makes two `!=` of
/// neighbouring fields into one, which is true if either of them is.
///
/// `shared_*`: a gateway that other hosts have too is neither heard nor seen through the device
/// that leads to them, and neither is what guests ask of it. Guests hear of routers and of DHCP from
/// their own host alone; tags that nobody there can send are not heard either.
const GUARD: &str = r#"table bridge trestle {
	set guard_mac {
		type ifname . ether_addr
	}
	set guard_ip4 {
		type ifname . ether_addr . ipv4_addr
	}
	set guard_ip6 {
		type ifname . ether_addr . ipv6_addr
	}
	set guard_nd {
		typeof iifname . ether saddr . @th,64,128
	}
	set guard_hardware {
		typeof iifname . @th,208,48
	}
	set guard_range4 {
		type ifname . ether_addr . ipv4_addr
		flags interval
	}
	set guard_range6 {
		type ifname . ether_addr . ipv6_addr
		flags interval
	}
	set guard_ether_type {
		type ifname . ether_type
	}
	set unguarded {
		type ifname
	}
	map heard_by {
		type ifname : mark
	}
	set shared_uplink {
		type ifname
	}
	set shared_mac {
		type ifname . ether_addr
	}
	set shared_ip4 {
		type ifname . ipv4_addr
	}
	set shared_ip6 {
		type ifname . ipv6_addr
	}
	set shared_nd {
		typeof oifname . @th,64,128
	}
	set gateway_mac {
		type ether_addr
	}
	chain from_instance {
		iifname @unguarded accept
		ether type 8021q drop
		ether type 8021ad drop
		iifname . ether saddr != @guard_mac drop
		ip hdrlength > 5 @nh,160,32 != 0x94040000 drop
		ip hdrlength > 6 drop
		ip frag-off & 0x1fff == 0 udp sport 68 udp dport 67 @th,64,24 0x010106 iifname . @th,288,48 @guard_hardware jump from_client
		ip frag-off & 0x1fff == 0 udp dport 67 drop
		ip frag-off & 0x1fff == 0 udp sport 67 drop
		ip frag-off & 0x1fff == 0 udp dport 68 drop
		ether type ip igmp type membership-query drop
		iifname . ether saddr . ip saddr @guard_ip4 meta l4proto != 255 accept
		iifname . ether saddr . ip saddr @guard_range4 meta l4proto != 255 meta mark set 0x7e570001 accept
		arp htype 1 arp ptype ip arp hlen 6 arp plen 4 jump from_instance_arp
		ether type ip6 jump from_instance6
		iifname . ether type @guard_ether_type accept
		drop
	}
	chain from_client {
		ip saddr 0.0.0.0 ip daddr 255.255.255.255 accept
		iifname . ether saddr . ip saddr @guard_ip4 accept
	}
	chain from_instance_arp {
		iifname . arp saddr ether . arp saddr ip @guard_ip4 accept
		arp saddr ip 0.0.0.0 arp operation request iifname . arp saddr ether . arp daddr ip @guard_ip4 accept
	}
	chain from_instance6 {
		exthdr rt exists drop
		icmpv6 type nd-neighbor-solicit goto from_neighbour
		icmpv6 type nd-neighbor-advert goto from_neighbour
		icmpv6 type nd-router-solicit goto from_stranger
		icmpv6 type nd-router-advert drop
		icmpv6 type nd-redirect drop
		icmpv6 type mld-listener-query drop
		ip6 saddr :: icmpv6 type mld2-listener-report accept
		udp dport 547 @th,64,8 < 12 iifname . ether saddr . ip6 saddr @guard_ip6 accept
		udp dport 547 drop
		udp sport 547 drop
		udp dport 546 drop
		iifname . ether saddr . ip6 saddr @guard_ip6 meta l4proto != 255 accept
		iifname . ether saddr . ip6 saddr @guard_range6 meta l4proto != 255 meta mark set 0x7e570001 accept
		drop
	}
	chain from_neighbour {
		ip6 nexthdr != ipv6-icmp drop
		ip6 length > 32 drop
		ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . @th,64,128 @guard_nd accept
		iifname . ether saddr . ip6 saddr != @guard_ip6 drop
		icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @guard_nd drop
		ip6 length 24 accept
		ip6 length 32 iifname . @th,208,48 @guard_hardware accept
		drop
	}
	chain from_stranger {
		ip6 nexthdr != ipv6-icmp drop
		ip6 saddr :: ip6 length 8 accept
		iifname . ether saddr . ip6 saddr != @guard_ip6 drop
		ip6 length 8 accept
		ip6 length 16 iifname . @th,80,48 @guard_hardware accept
		drop
	}
	chain to_range {
		oifname . ether daddr . ip daddr @guard_range4 accept
		oifname . ether daddr . ip6 daddr @guard_range6 accept
		ether type ip drop
		ether type ip6 drop
	}
	chain to_instance {
		oifname @unguarded accept
		ether type 8021q drop
		ether type 8021ad drop
		meta protocol ip oifname . ether daddr . ip daddr @guard_ip4 accept
		meta protocol ip6 oifname . ether daddr . ip6 daddr @guard_ip6 accept
		ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 jump to_many
		jump to_range
	}
	chain to_many {
		oifname . ether saddr @guard_mac drop
		icmpv6 type nd-neighbor-solicit accept
		icmpv6 type nd-neighbor-advert accept
		icmpv6 type nd-router-advert accept
		icmpv6 type mld-listener-query accept
		ip protocol igmp accept
		ip daddr 255.255.255.255 udp sport 67 udp dport 68 accept
		meta mark set oifname map @heard_by accept
		ether type ip drop
		ether type ip6 drop
	}
	chain told_instance {
		oifname @unguarded accept
		ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 accept
		jump to_range
	}
	chain from_uplink {
		ether type 8021q drop
		ether type 8021ad drop
		iifname . ether saddr @shared_mac drop
		iifname . ether daddr @shared_mac drop
		iifname . arp saddr ip @shared_ip4 drop
		iifname . arp daddr ip @shared_ip4 drop
		iifname . ip6 saddr @shared_ip6 drop
		icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @shared_nd drop
		icmpv6 type nd-neighbor-advert iifname . @th,64,128 @shared_nd drop
	}
	chain from_uplink_to_instance {
		icmpv6 type nd-router-advert drop
		icmpv6 type nd-redirect drop
		udp dport 68 drop
		udp dport 546 drop
	}
	chain asked_through_uplink {
		oifname . arp daddr ip @shared_ip4 drop
		icmpv6 type nd-neighbor-solicit oifname . @th,64,128 @shared_nd drop
		icmpv6 type nd-router-solicit drop
		udp dport 67 drop
		udp dport 547 drop
	}
	chain told_through_uplink {
		oifname . ether saddr @shared_mac drop
		oifname . arp saddr ip @shared_ip4 drop
		oifname . ip6 saddr @shared_ip6 drop
		icmpv6 type nd-router-advert drop
		udp sport 67 drop
		udp sport 547 drop
	}
	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		ether type ip ip hdrlength 5 ip protocol != igmp ip protocol != 255 th sport & 0xfff8 != 64 th dport & 0xfff8 != 64 iifname . ether saddr . ip saddr @guard_ip4 accept
		ether type ip6 ip6 nexthdr tcp meta l4proto tcp iifname . ether saddr . ip6 saddr @guard_ip6 accept
		ether type ip6 ip6 nexthdr udp udp sport & 0xfffe != 546 udp dport & 0xfffe != 546 iifname . ether saddr . ip6 saddr @guard_ip6 accept
		iifname "tr-*" jump from_instance
		iifname @shared_uplink jump from_uplink
	}
	chain input {
		type filter hook input priority -300; policy accept;
		iifname "tr-*" ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop
		icmpv6 type nd-router-advert ether saddr @gateway_mac drop
	}
	chain forward {
		type filter hook forward priority -300; policy accept;
		ether type ip iifname "tr-*" oifname . ether daddr . ip daddr @guard_ip4 accept
		ether type ip6 iifname "tr-*" oifname . ether daddr . ip6 daddr @guard_ip6 accept
		iifname @shared_uplink jump from_uplink_to_instance
		oifname @shared_uplink jump asked_through_uplink
		oifname "tr-*" jump to_instance
	}
	chain output {
		type filter hook output priority -300; policy accept;
		meta protocol ip oifname . ether daddr . ip daddr @guard_ip4 accept
		meta protocol ip6 oifname . ether daddr . ip6 daddr @guard_ip6 accept
		oifname . ether saddr @guard_mac drop
		oifname "tr-*" jump told_instance
		oifname @shared_uplink jump told_through_uplink
	}
}
"#;

/// `inet trestle`. Under which addresses guests are reached and send, and what of the host itself is had by
/// those; which networks reach which is said where packets are passed on (`GROUPS`).
///
/// A floating IP is reached from everywhere, the host itself included (reference LX-40). Who reaches
/// one from inside comes under its own, if it has one; on the same bridge under the router's address
/// at least, because the answer would not come back this way else. What is sent to a floating IP and
/// is for no guest does not become the host's: its own services are not to be had there. Not even a flow
/// that began while there were no rules does. What the host itself asked of one is answered.
///
/// Exempt ranges of source NAT come before floating IPs, and forced ones before those (`dmz_cidr`,
/// `force_snat_range`, reference LX-38).
///
/// `yielded6`: as in `CLAIMS`; who advertises an address does so from it, and on this link (RFC 4861
/// §7.1.2).
///
/// `metadata`: who asks for metadata is answered by the host itself, on a port that nothing else leads to.
const GATEWAY: &str = r"table inet trestle {
	set nat_source {
		type ipv4_addr . ifname
		flags interval
	}
	map nat_source_ip {
		type ipv4_addr . ifname : ipv4_addr
		flags interval
	}
	set nat_exempt {
		type ipv4_addr . ipv4_addr
		flags interval
	}
	set nat_forced {
		type ipv4_addr . ipv4_addr
		flags interval
	}
	set nat_local {
		type ipv4_addr . ifname
		flags interval
	}
	set nat_local6 {
		type ipv6_addr . ifname
		flags interval
	}
	map floating_to {
		type ipv4_addr : ipv4_addr
	}
	map floating_to6 {
		type ipv6_addr : ipv6_addr
	}
	map floating_from {
		type ipv4_addr . ifname : ipv4_addr
	}
	map floating_from6 {
		type ipv6_addr . ifname : ipv6_addr
	}
	map floating_back {
		type ipv4_addr : ipv4_addr
	}
	map floating_back6 {
		type ipv6_addr : ipv6_addr
	}
	map forward_to {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}
	map forward_to6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
	}
	set floating {
		type ipv4_addr
	}
	set floating6 {
		type ipv6_addr
	}
	set held6 {
		type ifname . ipv6_addr
	}
	set yielded6 {
		type ifname . ipv6_addr
		size 65535
		flags dynamic
	}
	map metadata {
		type ifname . ether_addr . ipv4_addr : ipv4_addr . inet_service
	}
	set metadata_port {
		type inet_service
	}
	chain lead_in {
		dnat ip to ip daddr . meta l4proto . th dport map @forward_to
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @forward_to6
		dnat ip to ip daddr map @floating_to
		dnat ip6 to ip6 daddr map @floating_to6
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 169.254.169.254 tcp dport 80 dnat ip to iifname . ether saddr . ip saddr map @metadata
		jump lead_in
	}
	chain input {
		type filter hook input priority filter; policy accept;
		icmpv6 type nd-neighbor-advert ip6 hoplimit 255 iifname . ip6 saddr @held6 add @yielded6 { iifname . ip6 saddr }
		meta l4proto icmp accept
		meta l4proto ipv6-icmp accept
		tcp dport @metadata_port ct original ip daddr 169.254.169.254 accept
		tcp dport @metadata_port drop
		ct direction original ip daddr @floating drop
		ct direction original ip6 daddr @floating6 drop
		ct state established,related accept
		ip daddr @floating drop
		ip6 daddr @floating6 drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
		oifname . ip6 saddr @yielded6 drop
	}
	chain nat_output {
		type nat hook output priority -100; policy accept;
		jump lead_in
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ct status dnat snat ip to ip saddr map @floating_back
		ct status dnat snat ip6 to ip6 saddr map @floating_back6
		ct status dnat ip saddr . oifname @nat_local masquerade
		ct status dnat ip6 saddr . oifname @nat_local6 masquerade
		ip saddr . ip daddr @nat_forced masquerade
		ip saddr . ip daddr @nat_exempt accept
		snat ip to ip saddr . oifname map @floating_from
		snat ip6 to ip6 saddr . oifname map @floating_from6
		snat ip to ip saddr . oifname map @nat_source_ip
		ip saddr . oifname @nat_source masquerade
	}
}
";

/// `arp trestle`. A host that was told of a floating IP may be away when another one is: it goes on
/// answering for it. The other one's announcement is heard here, and from then on this host says
/// nothing of the address (an announcement is a request or an answer by who has it, RFC 5227 §3).
const CLAIMS: &str = r"table arp trestle {
	set held {
		type ifname . ipv4_addr
	}
	set yielded {
		type ifname . ipv4_addr
		size 65535
		flags dynamic
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname . arp saddr ip @held add @yielded { iifname . arp saddr ip }
	}
	chain output {
		type filter hook output priority filter; policy accept;
		oifname . arp saddr ip @yielded drop
	}
}
";

/// The text of a table: its sets and chains, without elements.
pub fn ruleset(table: Table) -> String {
    match table {
        Table::Guard => GUARD.to_owned(),
        Table::Gateway => GATEWAY.to_owned(),
        Table::Claims => CLAIMS.to_owned(),
        Table::Groups => groups::GROUPS.to_owned(),
    }
}

/// The rules of a chain in a table's text; `None` if it has no such chain.
pub(crate) fn chain_in<'t>(ruleset: &'t str, name: &str) -> Option<Vec<&'t str>> {
    let begin = format!("chain {name} {{");
    let mut lines = ruleset.lines().map(str::trim).skip_while(|line| *line != begin);
    lines.next()?;
    let rules = lines.take_while(|line| *line != "}");
    Some(rules.filter(|line| !line.starts_with("type ")).collect())
}

/// A device's name as a part of a setting's dotted name, as sysctl(8) writes it: a dot in it is a
/// slash there.
pub fn sysctl_part(link: &LinkName) -> String {
    link.as_str().replace('.', "/")
}

/// The arguments of a network's dnsmasq under these gateway addresses; `%S` stands for the host's
/// state folder.
///
/// It is bound to its bridge alone: without `--interface` several on one host steal each other's
/// renewals and releases (reference LX-66). It never chooses an address: the ranges are `static` and
/// an unknown MAC is ignored. Leases go by MAC whatever client id a guest sends.
pub fn dnsmasq_arguments(network: &Network, gateways: &[(IpAddr, Cidr)]) -> Vec<String> {
    let folder = format!("%S/networks/{}", network.name);
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
        format!("--dhcp-hostsdir={folder}/dhcp-hosts"),
        "--dhcp-ignore=tag:!known".to_owned(),
        "--dhcp-ignore-clid".to_owned(),
        "--dhcp-authoritative".to_owned(),
        "--no-ping".to_owned(),
        format!("--dhcp-leasefile={folder}/leases"),
        format!("--dhcp-lease-max={}", lease_max(network)),
    ];
    for (address, cidr) in gateways {
        match address {
            IpAddr::V4(_) => arguments.extend(dhcp4(network, *address, *cidr)),
            IpAddr::V6(_) => arguments.extend(dhcp6(network, *address, *cidr)),
        }
        let options = network.dhcp_options.iter().filter(|option| option.family() == cidr.family());
        arguments.extend(options.map(|option| format!("--dhcp-option={option}")));
    }
    if !network.dns.is_empty() {
        arguments.push("--no-resolv".to_owned());
        arguments.extend(network.dns.iter().map(|server| format!("--server={server}")));
    }
    arguments
}

/// As many as there are addresses, of which no network has more than a million in use.
fn lease_max(network: &Network) -> u64 {
    let most = 1_u64 << 20;
    let of_subnet = |cidr: Cidr| {
        let width = if cidr.family() == Family::Ipv4 { 32 } else { 128 };
        1_u64.checked_shl(width - u32::from(cidr.net().prefix_len())).unwrap_or(most).min(most)
    };
    network.subnets().map(|subnet| of_subnet(subnet.cidr)).sum::<u64>().min(most)
}

fn dhcp4(network: &Network, gateway: IpAddr, cidr: Cidr) -> [String; 4] {
    let net = cidr.net();
    [
        format!("--dhcp-range={},static,{},{}s", net.network(), net.netmask(), network.dhcp_lease_time),
        format!("--dhcp-option=option:router,{gateway}"),
        format!("--dhcp-option=option:dns-server,{gateway}"),
        format!("--dhcp-option=option:mtu,{}", network.mtu),
    ]
}

/// Routers are advertised every minute, for half an hour (RFC 4861 §6.2.1).
fn dhcp6(network: &Network, gateway: IpAddr, cidr: Cidr) -> [String; 5] {
    let (net, lease) = (cidr.net(), network.dhcp_lease_time);
    let mode = match network.ipv6_mode {
        Ipv6Mode::Dhcpv6 => "static",
        Ipv6Mode::Slaac => "ra-stateless",
    };
    [
        "--enable-ra".to_owned(),
        format!("--dhcp-range={},{mode},{},{lease}s", net.network(), net.prefix_len()),
        format!("--ra-param={},mtu:{},60,1800", network.bridge, network.mtu),
        format!("--dhcp-option=option6:dns-server,[{gateway}]"),
        format!("--dhcp-option=option6:domain-search,{}", network.domain),
    ]
}
