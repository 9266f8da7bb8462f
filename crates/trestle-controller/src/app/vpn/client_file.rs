//! The text that a user's program reads: an OpenVPN profile, or what `wg-quick` takes. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use trestle_core::types::{Cidr, Domain, Name, VpnEndpoint};

/// What WireGuard adds to a packet at most: an IPv6 header, UDP's and its own.
const WIREGUARD_OVERHEAD: u32 = 80;

/// What both kinds say.
pub(super) struct ClientFile<'a> {
    pub(super) project: &'a Name,
    pub(super) user: &'a Name,
    /// The name of the VPN's instance, which its certificate has.
    pub(super) vpn: &'a Name,
    pub(super) network: &'a Name,
    pub(super) endpoint: VpnEndpoint,
    /// What is reached by it.
    pub(super) cidr: Cidr,
    pub(super) expires_at: Timestamp,
}

/// What OpenVPN needs besides: all of it PEM.
pub(super) struct OpenVpnKeys<'a> {
    pub(super) ca: &'a str,
    pub(super) certificate: &'a str,
    pub(super) key: &'a str,
    pub(super) tls_crypt: &'a str,
}

/// What WireGuard needs besides.
pub(super) struct WireGuardKeys<'a> {
    /// The user's own address.
    pub(super) address: IpAddr,
    /// Base64.
    pub(super) private_key: &'a str,
    /// The server's, base64.
    pub(super) public_key: &'a str,
    /// Who answers DNS there, if anybody does, and under which domain its names are.
    pub(super) dns: Option<(IpAddr, &'a Domain)>,
    /// The network's MTU.
    pub(super) mtu: u32,
}

impl ClientFile<'_> {
    /// The profile for OpenVPN 2.5 or later.
    pub(super) fn openvpn(&self, keys: &OpenVpnKeys<'_>) -> String {
        let VpnEndpoint { ip, port } = self.endpoint;
        let protocol = if ip.is_ipv6() { "udp6" } else { "udp" };
        let [ca, certificate, key, tls_crypt] =
            [keys.ca, keys.certificate, keys.key, keys.tls_crypt].map(str::trim_end);
        format!(
            "{}client\n\
             dev tun\n\
             proto {protocol}\n\
             remote {ip} {port}\n\
             nobind\n\
             persist-key\n\
             persist-tun\n\
             resolv-retry infinite\n\
             remote-cert-tls server\n\
             verify-x509-name {} name\n\
             data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\n\
             tls-version-min 1.2\n\
             auth-nocache\n\
             connect-retry 1 5\n\
             connect-timeout 5\n\
             explicit-exit-notify 1\n\
             verb 3\n\
             <ca>\n{ca}\n</ca>\n\
             <cert>\n{certificate}\n</cert>\n\
             <key>\n{key}\n</key>\n\
             <tls-crypt>\n{tls_crypt}\n</tls-crypt>\n",
            self.comment(),
            self.vpn,
        )
    }

    /// The file for `wg-quick`, or any other WireGuard.
    pub(super) fn wireguard(&self, keys: &WireGuardKeys<'_>) -> String {
        let WireGuardKeys { address, private_key, public_key, dns, mtu } = keys;
        let dns = match dns {
            Some((server, domain)) => format!("DNS = {server}, {domain}\n"),
            None => String::new(),
        };
        let mtu = mtu.saturating_sub(WIREGUARD_OVERHEAD);
        let VpnEndpoint { ip, port } = self.endpoint;
        let endpoint = std::net::SocketAddr::new(ip, port);
        format!(
            "{}[Interface]\n\
             PrivateKey = {private_key}\n\
             Address = {address}/32\n\
             {dns}MTU = {mtu}\n\
             \n\
             [Peer]\n\
             PublicKey = {public_key}\n\
             Endpoint = {endpoint}\n\
             AllowedIPs = {}\n\
             PersistentKeepalive = 25\n",
            self.comment(),
            self.cidr,
        )
    }

    fn comment(&self) -> String {
        let Self { project, user, network, cidr, expires_at, .. } = self;
        let until = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ");
        format!(
            "# VPN of project {project}, for {user} until {until}: leads into network {network}, {cidr}.\n\
             # Keep it secret: who has it comes in as {user}. Nobody can show it again.\n"
        )
    }
}
