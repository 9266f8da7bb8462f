//! The text that a VPN's namespace, and its server, are given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::types::{LinkName, Mtu, VpnKind};
use crate::world::{Network, VPN_PORT, VpnUser};

/// What the end of a VPN's veth is called in its namespace.
pub const VPN_DEVICE: &str = "eth0";

/// The kernel settings of a VPN's namespace. It answers for its clients' addresses (ARP, RFC 1027) at once,
/// as they would themselves, and has no IPv6, by which nothing is looked at.
pub fn vpn_settings() -> BTreeMap<String, String> {
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.eth0.proxy_arp", "1"),
        ("net.ipv4.neigh.eth0.proxy_delay", "0"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// What a VPN's tunnel carries at both its ends, in bytes. No client's own network carries more than Ethernet
/// does; OpenVPN divides what is too large with what it adds, WireGuard must not have it (80 bytes, its header
/// under IPv6).
pub fn vpn_mtu(kind: VpnKind, network: Mtu) -> u16 {
    let ethernet = Mtu::ETHERNET.bytes();
    match kind {
        VpnKind::OpenVpn => network.bytes().min(ethernet),
        VpnKind::WireGuard => network.bytes().min(ethernet - 80),
    }
}

/// A VPN's place in its network.
#[derive(Clone, Copy, Debug)]
pub struct VpnPlace<'a> {
    /// The network that it leads into.
    pub network: &'a Network,
    /// Its own address there.
    pub address: Ipv4Addr,
    /// The network's range.
    pub subnet: Ipv4Net,
    /// The router's address on this host, by which what it tells its clients leaves.
    pub gateway: Ipv4Addr,
    /// The device by which its clients come.
    pub tunnel: &'a LinkName,
}

impl VpnPlace<'_> {
    /// The commands for `ip -batch` that make the namespace's devices, addresses and routes. WireGuard's
    /// tunnel is there before them: of which make it is, the host knows.
    pub fn network_commands(&self, kind: VpnKind) -> String {
        let Self { address, subnet, gateway, tunnel, .. } = self;
        let make_tunnel = match kind {
            VpnKind::OpenVpn => format!("tuntap add dev {tunnel} mode tun\n"),
            VpnKind::WireGuard => String::new(),
        };
        format!(
            "link set lo up\n\
             address replace {address}/{prefix} dev {VPN_DEVICE}\n\
             link set {VPN_DEVICE} up\n\
             route replace default via {gateway}\n\
             {make_tunnel}\
             link set {tunnel} mtu {mtu} up\n",
            prefix = subnet.prefix_len(),
            mtu = vpn_mtu(kind, self.network.mtu),
        )
    }

    /// `inet trestle_vpn`, in the namespace. Clients reach the network and nothing else, each other neither; of
    /// the VPN itself there is the server and an echo.
    pub fn filter(&self) -> String {
        let Self { subnet, tunnel, .. } = self;
        format!(
            r#"table inet trestle_vpn {{
	chain input {{
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		iifname "{VPN_DEVICE}" udp dport {VPN_PORT} accept
		iifname "{VPN_DEVICE}" meta l4proto icmp accept
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		iifname "{tunnel}" oifname "{VPN_DEVICE}" ip daddr {subnet} accept
		iifname "{VPN_DEVICE}" oifname "{tunnel}" ip saddr {subnet} accept
	}}
}}
"#
        )
    }

    /// The configuration of openvpn(8), which runs in the VPN's folder.
    ///
    /// It lets nobody in whom it has no file of (`ccd-exclusive`), so a user ends when the file goes: there
    /// is no list of revoked certificates that could be old (reference CP-14). Devices are made for it, so
    /// that it needs no privilege once it runs. Clients that hear nothing for 15 seconds ask anew.
    pub fn openvpn_config(&self) -> String {
        let Self { address, subnet, gateway, tunnel, network } = self;
        format!(
            "mode server\n\
             tls-server\n\
             proto udp\n\
             port {VPN_PORT}\n\
             dev {tunnel}\n\
             dev-type tun\n\
             topology subnet\n\
             ifconfig {address} {netmask}\n\
             ifconfig-noexec\n\
             route-noexec\n\
             tun-mtu {mtu}\n\
             push \"topology subnet\"\n\
             push \"dhcp-option DNS {gateway}\"\n\
             push \"dhcp-option DOMAIN {domain}\"\n\
             keepalive 5 15\n\
             explicit-exit-notify 1\n\
             client-config-dir clients\n\
             ccd-exclusive\n\
             ca ca.crt\n\
             cert server.crt\n\
             key server.key\n\
             tls-crypt tls-crypt.key\n\
             dh none\n\
             tls-version-min 1.2\n\
             remote-cert-tls client\n\
             data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\n\
             user nobody\n\
             group nogroup\n\
             persist-key\n\
             persist-tun\n\
             management management unix\n\
             management-client-user root\n\
             writepid pid\n\
             verb 1\n",
            netmask = subnet.netmask(),
            mtu = vpn_mtu(VpnKind::OpenVpn, self.network.mtu),
            domain = network.domain,
        )
    }

    /// What the server is told of a user: of OpenVPN a file of `client-config-dir`, of WireGuard a part of
    /// wg(8)'s configuration. The user's address comes first.
    pub fn user(&self, user: &VpnUser) -> String {
        match &user.public_key {
            None => format!("ifconfig-push {} {}\n", user.address, self.subnet.netmask()),
            Some(key) => format!("[Peer]\nAllowedIPs = {}/32\nPublicKey = {key}\n", user.address),
        }
    }
}
