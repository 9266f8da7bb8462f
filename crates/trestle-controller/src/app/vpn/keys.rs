//! The keys of a VPN: made, kept sealed, told to the host that runs it and, a user's own, to whoever
//! asked for the user.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sqlx::AnyConnection;
use trestle_api::vpn::VpnIdentity;
use trestle_core::render::vpn_mtu;
use trestle_core::types::{Name, ProjectId, VpnKind};
use trestle_core::world::Network;
use x25519_dalek::{PublicKey, StaticSecret};

use super::certificate::{Authority, Issued};
use super::client_file::{ClientFile, OpenVpnKeys, WireGuardKeys};
use super::sealing::Sealing;
use super::{hex, random};
use crate::error::AppError;
use crate::store::Write;
use crate::store::network::NetworkRecord;
use crate::store::vpn::secret::{self, Purpose};
use crate::store::vpn::user::{Credential, UserShown};
use crate::store::vpn::{Shown, VpnRecord};

/// How many hex digits tell the credentials of one user apart.
const DIGITS: usize = 16;

/// The longest part of a user's name in a credential's, so that it is a name with the digits.
const NAME: usize = 63 - 1 - DIGITS;

/// How many bytes a line of OpenVPN's static key has.
const STATIC_KEY_LINE: usize = 16;

/// New keys of a VPN, in the clear: what its clients are shown, and what is to be sealed.
pub(super) struct NewKeys {
    pub(super) shown: Shown,
    secrets: Vec<(Purpose, String)>,
}

impl NewKeys {
    /// Makes them.
    pub(super) fn generate(
        kind: VpnKind,
        (project, vpn): (&Name, &Name),
        now: Timestamp,
    ) -> Result<Self, AppError> {
        match kind {
            VpnKind::OpenVpn => {
                let (authority, ca) = Authority::begin(project, now)?;
                let server = authority.sign_server(vpn, now)?;
                let secrets = vec![
                    (Purpose::CaKey, ca.key),
                    (Purpose::ServerKey, server.key),
                    (Purpose::TlsCrypt, static_key()?),
                ];
                let (ca, server) = (ca.certificate, server.certificate);
                Ok(Self { shown: Shown::Certificates { ca, server }, secrets })
            }
            VpnKind::WireGuard => {
                let (private, public) = wireguard_pair()?;
                let secrets = vec![(Purpose::WireGuardKey, private)];
                Ok(Self { shown: Shown::PublicKey(public), secrets })
            }
        }
    }

    /// The keys of a server whose certificate was made anew by the same authority.
    pub(super) fn of_server(before: &Shown, server: Issued) -> Result<Self, AppError> {
        let Shown::Certificates { ca, .. } = before else {
            return Err(AppError::defect("a VPN without an authority has a certificate"));
        };
        let shown = Shown::Certificates { ca: ca.clone(), server: server.certificate };
        Ok(Self { shown, secrets: vec![(Purpose::ServerKey, server.key)] })
    }

    /// Keeps the secret ones; the VPN must be there.
    pub(super) async fn keep(
        self,
        write: &mut Write,
        sealing: &Sealing,
        project: ProjectId,
    ) -> Result<(), AppError> {
        // A file that is missing where it was used is lost, or is on another controller: one more key
        // would make what some of them cannot read.
        if !secret::are_any(write.connection()).await? {
            sealing.ensure_key()?;
        }
        for (purpose, plain) in self.secrets {
            let sealed = sealing.seal(project, purpose, &plain)?;
            secret::put(write, (project, purpose), &sealed).await?;
        }
        Ok(())
    }
}

/// One of a VPN's keys in the clear.
pub(super) async fn open(
    connection: &mut AnyConnection,
    sealing: &Sealing,
    (project, purpose): (ProjectId, Purpose),
) -> Result<String, AppError> {
    let sealed = secret::find(connection, project, purpose).await?;
    let sealed = sealed.ok_or_else(|| AppError::defect("a VPN lacks one of its keys"))?;
    sealing.open(project, purpose, &sealed)
}

/// A project's authority, if it is good now.
pub(super) async fn authority(
    connection: &mut AnyConnection,
    sealing: &Sealing,
    record: &VpnRecord,
    now: Timestamp,
) -> Result<Authority, AppError> {
    let Shown::Certificates { ca, .. } = &record.shown else {
        return Err(AppError::defect("a VPN has no authority"));
    };
    let project = record.vpn.project;
    super::certificate::refuse_not_good(&record.project_name, ca, now)?;
    let key = open(connection, sealing, (project, Purpose::CaKey)).await?;
    Authority::take_up(&record.project_name, ca.clone(), &key, now)
}

/// What the host that runs the VPN is told.
pub(super) async fn identity(
    connection: &mut AnyConnection,
    sealing: &Sealing,
    record: &VpnRecord,
    now: Timestamp,
) -> Result<VpnIdentity, AppError> {
    let project = record.vpn.project;
    let mut files = BTreeMap::new();
    let mut put = |name: &str, text: String| files.insert(name.to_owned(), text);
    match &record.shown {
        Shown::Certificates { ca, server } => {
            put("ca.crt", ca.pem.clone());
            put("server.crt", server.pem.clone());
            put("server.key", open(connection, sealing, (project, Purpose::ServerKey)).await?);
            put("tls-crypt.key", open(connection, sealing, (project, Purpose::TlsCrypt)).await?);
        }
        Shown::PublicKey(_) => {
            let key = open(connection, sealing, (project, Purpose::WireGuardKey)).await?;
            put("private.key", format!("{key}\n"));
        }
    }
    Ok(VpnIdentity { id: record.vpn.identity, files, now })
}

/// Whom a credential is for.
pub(super) struct Holder<'a> {
    pub(super) name: &'a Name,
    pub(super) address: IpAddr,
    pub(super) expires_at: Timestamp,
}

/// What a user is let in by from now on, and the file with it, which nobody has after that.
pub(super) async fn issue(
    write: &mut Write,
    sealing: &Sealing,
    (record, network): (&VpnRecord, &NetworkRecord),
    holder: Holder<'_>,
) -> Result<(Credential, String), AppError> {
    let subnet = network.network.ipv4.ok_or_else(|| AppError::defect("a VPN's network has no IPv4"))?;
    let name = credential_name(holder.name)?;
    let mut file = ClientFile {
        project: &record.project_name,
        user: holder.name,
        vpn: &record.vpn.name,
        network: &record.network_name,
        endpoint: record.endpoint,
        cidr: subnet.cidr,
        expires_at: holder.expires_at,
    };
    match &record.shown {
        Shown::Certificates { ca, .. } => {
            let now = write.at();
            let authority = authority(write.connection(), sealing, record, now).await?;
            let issued = authority.sign_user(&name, now, holder.expires_at)?;
            let purpose = (record.vpn.project, Purpose::TlsCrypt);
            let tls_crypt = open(write.connection(), sealing, purpose).await?;
            file.expires_at = issued.certificate.expires_at;
            let text = file.openvpn(&OpenVpnKeys {
                ca: &ca.pem,
                certificate: &issued.certificate.pem,
                key: &issued.key,
                tls_crypt: &tls_crypt,
            });
            let shown = UserShown::Serial(issued.serial);
            Ok((Credential { name, shown, expires_at: file.expires_at }, text))
        }
        Shown::PublicKey(server) => {
            let (private, public) = wireguard_pair()?;
            let on = &network.network;
            let text = file.wireguard(&WireGuardKeys {
                address: holder.address,
                private_key: &private,
                public_key: server,
                dns: resolver(record, on).map(|resolver| (resolver, &on.domain)),
                mtu: vpn_mtu(VpnKind::WireGuard, on.mtu),
            });
            let shown = UserShown::PublicKey(public);
            Ok((Credential { name, shown, expires_at: holder.expires_at }, text))
        }
    }
}

/// Who answers DNS for the VPN's users: the network's router on its host.
fn resolver(record: &VpnRecord, network: &Network) -> Option<IpAddr> {
    let (host, _) = record.standing.host.as_ref()?;
    let addresses = network.gateway_addresses(*host);
    addresses.into_iter().map(|(address, _)| address).find(IpAddr::is_ipv4)
}

/// `alice-` and random digits.
fn credential_name(user: &Name) -> Result<Name, AppError> {
    let short: String = user.as_str().chars().take(NAME).collect();
    let text = format!("{short}-{}", hex(&random::<{ DIGITS / 2 }>()?));
    text.parse().map_err(|error| AppError::defect("a credential's name is none").caused_by(error))
}

/// A private key and its public one, in base64 (RFC 7748).
fn wireguard_pair() -> Result<(String, String), AppError> {
    let secret = StaticSecret::from(random::<32>()?);
    let public = PublicKey::from(&secret);
    Ok((STANDARD.encode(secret.to_bytes()), STANDARD.encode(public.as_bytes())))
}

/// What `openvpn --genkey secret` writes.
fn static_key() -> Result<String, AppError> {
    let bytes = random::<256>()?;
    let lines: Vec<String> = bytes.chunks(STATIC_KEY_LINE).map(hex).collect();
    Ok(format!(
        "-----BEGIN OpenVPN Static key V1-----\n{}\n-----END OpenVPN Static key V1-----\n",
        lines.join("\n")
    ))
}
