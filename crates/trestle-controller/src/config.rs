//! The controller's options: the `[server]` part of `trestle.toml` and the flags of
//! `trestle server`. Options that the original had keep their names.

use std::fs::DirBuilder;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trestle_core::types::{Cidr, Domain, LinkName, MetadataHost, MetadataService, VlanId};
use trestle_core::world::{NetworkType, Options};

/// How many of something a project may have. Written -1 where there is no limit, as the original
/// did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Limit(Option<u32>);

/// Why a number is not a [`Limit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a limit: use 0 to 4294967295, or -1 for none")]
pub struct InvalidLimit(i64);

impl Limit {
    /// As many as there are.
    pub const NONE: Self = Self(None);

    /// This many at most.
    pub const fn at_most(number: u32) -> Self {
        Self(Some(number))
    }

    /// The largest number that is allowed, if there is one.
    pub fn number(self) -> Option<u32> {
        self.0
    }
}

impl TryFrom<i64> for Limit {
    type Error = InvalidLimit;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match u32::try_from(number) {
            Ok(number) => Ok(Self(Some(number))),
            Err(_) if number == -1 => Ok(Self::NONE),
            Err(_) => Err(InvalidLimit(number)),
        }
    }
}

impl From<Limit> for i64 {
    fn from(limit: Limit) -> Self {
        limit.0.map_or(-1, Self::from)
    }
}

/// Every option of the controller. An option that is absent has the default that is said with it;
/// an unknown one is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// The folder of the database, of the first admin token and of the local socket.
    /// Default: `/var/lib/trestle`.
    pub state_dir: PathBuf,
    /// The database: `sqlite:<path>` or `postgres://user@host/name`. Several controllers may use
    /// one PostgreSQL database. Default: `sqlite:<state_dir>/trestle.db`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Where to listen: `address:port`, or `unix:<path>`. Another address than a loopback one
    /// needs `tls_cert` and `tls_key`, or `insecure`. Default: `127.0.0.1:7117` and
    /// `unix:<state_dir>/trestle.sock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<String>>,
    /// The certificate chain in PEM. Default: none, so plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// Allows plain HTTP beyond loopback, where tokens can be read on the way. Default: false.
    pub insecure: bool,
    /// The type of networks that name none: `vlan`, `flat_dhcp` or `flat`. Default: `vlan`.
    pub network_type: NetworkType,
    /// Whether every host with an instance routes for a network that does not say; else one host
    /// does for all. Default: true.
    pub multi_host: bool,
    /// Whether all hosts have the same gateway address on a multi-host network that does not say;
    /// else each takes one of its own. Default: true.
    pub share_address: bool,
    /// Where to begin to look for free VLAN ids. Default: 100.
    pub vlan_start: VlanId,
    /// How many IPv4 addresses each of several networks has that are made at once without a size,
    /// if their range has that many. Default: 256.
    pub network_size: u32,
    /// How many networks a project may own that has no quota of its own; -1 for no limit.
    /// Default: -1.
    pub quota_networks: Limit,
    /// How many fixed IPs its instances may have, in the same way. Default: -1.
    pub quota_fixed_ips: Limit,
    /// How many floating IPs it may have, in the same way. Default: 10.
    pub quota_floating_ips: Limit,
    /// How many security groups it may have, in the same way. Default: 100.
    pub quota_security_groups: Limit,
    /// How many rules each of its security groups may have, in the same way. Default: 200.
    pub quota_security_group_rules: Limit,
    /// What the security group `default` of each new project allows, besides that its members reach
    /// each other and everybody: rules such as `ingress tcp 22 from 10.0.0.0/8` or `ingress any`.
    /// Default: none.
    pub security_group_default_rules: Vec<String>,
    /// The bridge of networks of the types `flat_dhcp` and `flat` that name none. Default: none, so
    /// each must name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flat_network_bridge: Option<LinkName>,
    /// The DNS domain of networks that name none. Default: `trestle.internal`.
    pub dhcp_domain: Domain,
    /// How long a DHCP lease holds, in seconds; fixed for a network when it is made.
    /// Default: 86400.
    pub dhcp_lease_time: u32,
    /// Ranges that instances reach without source NAT. Default: none.
    pub dmz_cidr: Vec<Cidr>,
    /// Ranges that instances reach by source NAT, whatever device leads there and whatever
    /// `dmz_cidr` says. Default: none.
    pub force_snat_range: Vec<Cidr>,
    /// The machine of the metadata service, a name or an address; what instances ask 169.254.169.254 reaches
    /// it. Default: none, and nobody answers there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_host: Option<MetadataHost>,
    /// Its TCP port. Default: 8775.
    pub metadata_port: NonZeroU16,
    /// Whether a given back address may be given out again as soon as its host has ended the
    /// lease. If not, only `fixed_ip_disassociate_timeout` counts. Default: true.
    pub force_dhcp_release: bool,
    /// After how many seconds a given back address may be given out again whatever its host
    /// says. Default: 600.
    pub fixed_ip_disassociate_timeout: u32,
    /// The address that clients of VPNs send to that name none. Default: none, so a floating IP is reserved
    /// for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpn_ip: Option<IpAddr>,
    /// Where to begin to look for a free UDP port of that address. Default: 1000.
    pub vpn_start: NonZeroU16,
    /// Whether a project gets a VPN with the first instance that is plugged in on a network of its own.
    /// Default: false.
    pub vpn_autostart: bool,
    /// For how many days a VPN's user is let in, unless told otherwise. Default: 365.
    pub vpn_user_days: NonZeroU32,
    /// The file of the key that the private keys of VPNs are kept encrypted with: 32 bytes in base64, made
    /// when it is first needed. All controllers of one database need the same.
    /// Default: `<state_dir>/secret.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_file: Option<PathBuf>,
    /// For how many days it is kept who had which address, after it was over; 0 for ever.
    /// Default: 365.
    pub address_history_days: u32,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/trestle"),
            database: None,
            listen: None,
            tls_cert: None,
            tls_key: None,
            insecure: false,
            network_type: NetworkType::Vlan,
            multi_host: true,
            share_address: true,
            vlan_start: VlanId::try_from(100).expect("a constant VLAN id is one"),
            network_size: 256,
            quota_networks: Limit::NONE,
            quota_fixed_ips: Limit::NONE,
            quota_floating_ips: Limit::at_most(10),
            quota_security_groups: Limit::at_most(100),
            quota_security_group_rules: Limit::at_most(200),
            security_group_default_rules: Vec::new(),
            flat_network_bridge: None,
            dhcp_domain: "trestle.internal".parse().expect("a constant domain is a domain"),
            dhcp_lease_time: 86_400,
            dmz_cidr: Vec::new(),
            force_snat_range: Vec::new(),
            metadata_host: None,
            metadata_port: NonZeroU16::new(8775).expect("a constant port is one"),
            force_dhcp_release: true,
            fixed_ip_disassociate_timeout: 600,
            vpn_ip: None,
            vpn_start: NonZeroU16::new(1000).expect("a constant port is one"),
            vpn_autostart: false,
            vpn_user_days: NonZeroU32::new(365).expect("a constant number of days is not 0"),
            secret_key_file: None,
            address_history_days: 365,
        }
    }
}

impl ControllerConfig {
    /// The address that is listened on unless told otherwise: loopback, port 7117.
    pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7117);

    /// The options with every default under this state folder.
    pub fn in_state_dir(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), ..Self::default() }
    }

    /// What bears on hosts.
    pub(crate) fn options(&self) -> Options {
        let service = |host: &MetadataHost| MetadataService { host: host.clone(), port: self.metadata_port };
        Options {
            dmz_cidr: self.dmz_cidr.clone(),
            force_snat_range: self.force_snat_range.clone(),
            metadata: self.metadata_host.as_ref().map(service),
        }
    }

    /// Makes the state folder, if it is not there.
    pub(crate) fn make_state_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.state_dir)
    }

    /// The file that the first admin token is written to, readable by its owner alone.
    pub fn admin_token_path(&self) -> PathBuf {
        self.state_dir.join("admin.token")
    }

    /// The local socket that is listened on unless told otherwise.
    pub fn socket_path(&self) -> PathBuf {
        self.state_dir.join("trestle.sock")
    }

    /// The file of the key that private keys are kept encrypted with, the default filled in.
    pub fn secret_key_path(&self) -> PathBuf {
        self.secret_key_file.clone().unwrap_or_else(|| self.state_dir.join("secret.key"))
    }

    /// Where to listen, the default filled in.
    pub fn listen_on(&self) -> Vec<String> {
        self.listen.clone().unwrap_or_else(|| {
            vec![Self::DEFAULT_ADDRESS.to_string(), format!("unix:{}", self.socket_path().display())]
        })
    }

    /// The file of the default database.
    pub(crate) fn default_database_path(&self) -> PathBuf {
        Path::new(&self.state_dir).join("trestle.db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_config_has_every_default_and_an_unknown_option_is_refused() {
        let empty: ControllerConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, ControllerConfig::default());
        assert_eq!(empty.listen_on(), ["127.0.0.1:7117", "unix:/var/lib/trestle/trestle.sock"]);
        let unknown = serde_json::from_str::<ControllerConfig>(r#"{"flat_bridge": "br0"}"#);
        assert!(unknown.unwrap_err().to_string().starts_with("unknown field `flat_bridge`"));
    }

    #[test]
    fn a_limit_is_a_number_or_none() {
        let limits = |text: &str| serde_json::from_str::<Vec<Limit>>(text);
        assert_eq!(limits("[-1, 0, 10]").unwrap(), [Limit::NONE, Limit::at_most(0), Limit::at_most(10)]);
        assert_eq!(i64::from(Limit::NONE), -1);
        let refused = limits("[-2]").unwrap_err().to_string();
        assert!(refused.starts_with("-2 is not a limit: use 0 to 4294967295, or -1 for none"), "{refused}");
    }
}
