//! The text that a user's program reads: an OpenVPN profile, or what `wg-quick` takes. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use trestle_core::types::{Cidr, Domain, Name, VpnEndpoint, VpnKind};

/// How long an interface's name may be (IFNAMSIZ), which `wg-quick` takes from the file's.
const INTERFACE_NAME: usize = 15;

/// What to call a user's file.
pub(super) fn file_name(kind: VpnKind, project: &Name, user: &Name) -> String {
    let (project, user) = (project.as_str(), user.as_str());
    match kind {
        VpnKind::OpenVpn => format!("{project}-{user}.ovpn"),
        VpnKind::WireGuard => {
            // Who it is for is worth more than where it leads.
            let room = INTERFACE_NAME.saturating_sub(user.len() + 1);
            let project = project[..room.min(project.len())].trim_end_matches('-');
            let whole = if project.is_empty() { user.to_owned() } else { format!("{project}-{user}") };
            format!("{}.conf", &whole[..whole.len().min(INTERFACE_NAME)])
        }
    }
}

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
    /// The tunnel's MTU.
    pub(super) mtu: u16,
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
            // Without such a program `wg-quick` fails at it and takes everything down again.
            Some((server, domain)) => format!(
                "# DNS = {server}, {domain}  # uncomment where resolvconf or systemd-resolved is installed\n"
            ),
            None => String::new(),
        };
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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn shown(ip: &str, show: impl FnOnce(&ClientFile<'_>) -> String) -> String {
        let names = ["acme", "alice", "acme-vpn", "acme-net"].map(name);
        let [project, user, vpn, network] = &names;
        show(&ClientFile {
            project,
            user,
            vpn,
            network,
            endpoint: VpnEndpoint { ip: ip.parse().unwrap(), port: 1194 },
            cidr: "10.1.0.0/24".parse().unwrap(),
            expires_at: "2027-11-29T02:23:32.5Z".parse().unwrap(),
        })
    }

    #[test]
    fn a_profile_for_openvpn_has_all_that_it_needs_in_it() {
        let keys = OpenVpnKeys { ca: "CA\n", certificate: "CERT\n", key: "KEY\n", tls_crypt: "STATIC\n" };
        assert_snapshot!(shown("203.0.113.1", |file| file.openvpn(&keys)), @"
        # VPN of project acme, for alice until 2027-11-29T02:23:32Z: leads into network acme-net, 10.1.0.0/24.
        # Keep it secret: who has it comes in as alice. Nobody can show it again.
        client
        dev tun
        proto udp
        remote 203.0.113.1 1194
        nobind
        persist-key
        persist-tun
        resolv-retry infinite
        remote-cert-tls server
        verify-x509-name acme-vpn name
        data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305
        tls-version-min 1.2
        auth-nocache
        connect-retry 1 5
        connect-timeout 5
        explicit-exit-notify 1
        verb 3
        <ca>
        CA
        </ca>
        <cert>
        CERT
        </cert>
        <key>
        KEY
        </key>
        <tls-crypt>
        STATIC
        </tls-crypt>
        ");
        let six = shown("2001:db8::1", |file| file.openvpn(&keys));
        assert!(six.contains("\nproto udp6\nremote 2001:db8::1 1194\n"), "{six}");
    }

    #[test]
    fn what_wireguard_s_file_is_called_is_an_interface_s_name() {
        let called = |project, user| file_name(VpnKind::WireGuard, &name(project), &name(user));
        assert_eq!(called("acme", "alice"), "acme-alice.conf");
        assert_eq!(called("acme-research", "alice"), "acme-rese-alice.conf");
        assert_eq!(called("acme-labs", "alexander-b"), "acm-alexander-b.conf");
        assert_eq!(called("acme", "alexander-smith"), "alexander-smith.conf");
        assert_eq!(called("acme", "alexander-the-great"), "alexander-the-g.conf");
        assert_eq!(
            file_name(VpnKind::OpenVpn, &name("acme-research"), &name("alexander-the-great")),
            "acme-research-alexander-the-great.ovpn"
        );
    }

    #[test]
    fn a_file_for_wireguard_has_dns_where_there_is_some() {
        let domain: Domain = "trestle.internal".parse().unwrap();
        let keys = |dns| WireGuardKeys {
            address: "10.1.0.4".parse().unwrap(),
            private_key: "PRIVATE",
            public_key: "PUBLIC",
            dns,
            mtu: 1420,
        };
        let gateway = "10.1.0.1".parse().unwrap();
        assert_snapshot!(shown("203.0.113.1", |file| file.wireguard(&keys(Some((gateway, &domain))))), @"
        # VPN of project acme, for alice until 2027-11-29T02:23:32Z: leads into network acme-net, 10.1.0.0/24.
        # Keep it secret: who has it comes in as alice. Nobody can show it again.
        [Interface]
        PrivateKey = PRIVATE
        Address = 10.1.0.4/32
        # DNS = 10.1.0.1, trestle.internal  # uncomment where resolvconf or systemd-resolved is installed
        MTU = 1420

        [Peer]
        PublicKey = PUBLIC
        Endpoint = 203.0.113.1:1194
        AllowedIPs = 10.1.0.0/24
        PersistentKeepalive = 25
        ");
        let bare = shown("2001:db8::1", |file| file.wireguard(&keys(None)));
        assert!(
            bare.contains("/32\nMTU = 1420\n") && bare.contains("Endpoint = [2001:db8::1]:1194\n"),
            "{bare}"
        );
    }
}
