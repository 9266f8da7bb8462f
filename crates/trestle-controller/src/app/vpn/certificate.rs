//! A project's certificate authority, and what it signs: its VPN's certificate and its users'.
//!
//! ECDSA on P-256, X.509 (RFC 5280). No key outlives the request in here; who calls keeps it sealed or
//! tells it once.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use trestle_core::types::Name;

use crate::error::AppError;
use crate::store::vpn::Certificate;

/// How long an authority is good.
const CA_LIFE: SignedDuration = days(3650);

/// How long a VPN's own certificate is.
const SERVER_LIFE: SignedDuration = days(365);

/// How far back everything begins: clocks differ.
const BACK: SignedDuration = SignedDuration::from_hours(1);

/// The longest name of a project that goes into a common name with what stands behind it (RFC 5280
/// appendix A.1, ub-common-name).
const NAME: usize = 56;

/// So many days.
pub(super) const fn days(number: u32) -> SignedDuration {
    SignedDuration::from_hours(24 * number as i64)
}

/// A certificate with its private key, which is nowhere else.
pub(super) struct Issued {
    /// What everybody may see.
    pub(super) certificate: Certificate,
    /// PEM, PKCS #8.
    pub(super) key: String,
    /// Its number, in hex.
    pub(super) serial: String,
}

/// A project's authority, which can sign.
pub(super) struct Authority {
    certificate: Certificate,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// A new one that begins now; its own certificate and key are told with it.
    pub(super) fn begin(project: &Name, now: Timestamp) -> Result<(Self, Issued), AppError> {
        let (begins_at, expires_at) = (whole(now - BACK), whole(now + CA_LIFE));
        let mut params = ca_params(project);
        set_life(&mut params, begins_at, expires_at);
        let key = new_key()?;
        let serial = give_serial(&mut params)?;
        let pem = params.self_signed(&key).map_err(cannot_sign)?.pem();
        let certificate = Certificate { pem, begins_at, expires_at };
        let issued = Issued { certificate: certificate.clone(), key: key.serialize_pem(), serial };
        Ok((Self { certificate, params, key }, issued))
    }

    /// The one that there is, if it is good now.
    pub(super) fn take_up(
        project: &Name,
        certificate: Certificate,
        key: &str,
        now: Timestamp,
    ) -> Result<Self, AppError> {
        refuse_not_good(project, &certificate, now)?;
        let key = KeyPair::from_pem(key).map_err(cannot_sign)?;
        Ok(Self { certificate, params: ca_params(project), key })
    }

    /// A new certificate for the VPN itself. It ends with the authority at the latest.
    pub(super) fn sign_server(&self, vpn: &Name, now: Timestamp) -> Result<Issued, AppError> {
        let mut params = leaf_params(vpn, ExtendedKeyUsagePurpose::ServerAuth);
        let name = vpn.as_str().try_into().map_err(cannot_sign)?;
        params.subject_alt_names.push(SanType::DnsName(name));
        self.sign(params, now, now + SERVER_LIFE)
    }

    /// A new certificate for a user, good until then or the authority's end.
    pub(super) fn sign_user(
        &self,
        credential: &Name,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Issued, AppError> {
        self.sign(leaf_params(credential, ExtendedKeyUsagePurpose::ClientAuth), now, until)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Issued, AppError> {
        let begins_at = whole(now - BACK).max(self.certificate.begins_at);
        let expires_at = whole(until).min(self.certificate.expires_at);
        set_life(&mut params, begins_at, expires_at);
        let serial = give_serial(&mut params)?;
        let key = new_key()?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).map_err(cannot_sign)?.pem();
        let certificate = Certificate { pem, begins_at, expires_at };
        Ok(Issued { certificate, key: key.serialize_pem(), serial })
    }
}

/// Fails if an authority signs nothing now: it has ended, or the clock is wrong.
pub(super) fn refuse_not_good(project: &Name, ca: &Certificate, now: Timestamp) -> Result<(), AppError> {
    if ca.expires_at <= now {
        let message =
            format!("the certificate authority of project `{project}`'s VPN ended at {}", ca.expires_at);
        return Err(AppError::conflict("ca_expired", message).hint(format!(
            "`trestle vpn renew-ca --project {project}` makes a new one; every user needs a new file then"
        )));
    }
    if now < ca.begins_at {
        let message = format!(
            "the controller's clock says {now}, and the certificate authority of project `{project}`'s VPN begins at {}",
            ca.begins_at
        );
        return Err(AppError::conflict("clock_off", message)
            .hint("set the controller's clock right: a certificate made now would not be good"));
    }
    Ok(())
}

/// Whether a VPN's own certificate is to be made anew: less than a third of its life is left, and
/// another would live longer.
pub(super) fn is_worn(server: &Certificate, ca: &Certificate, now: Timestamp) -> bool {
    let life = server.expires_at.duration_since(server.begins_at);
    let left = server.expires_at.duration_since(now);
    left.saturating_mul(3) < life && whole(now + SERVER_LIFE).min(ca.expires_at) > server.expires_at
}

fn ca_params(project: &Name) -> CertificateParams {
    let mut params = CertificateParams::default();
    let short: String = project.as_str().chars().take(NAME).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{short} VPN CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(name: &Name, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn new_key() -> Result<KeyPair, AppError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cannot_sign)
}

/// Gives it a random number and says it in hex.
fn give_serial(params: &mut CertificateParams) -> Result<String, AppError> {
    let serial = super::random::<16>()?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(super::hex(&serial))
}

/// To the second: certificates know no finer time.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn set_life(params: &mut CertificateParams, begins_at: Timestamp, expires_at: Timestamp) {
    let date = |time: Timestamp| {
        let seconds = time.as_second().max(0).unsigned_abs();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (date(begins_at), date(expires_at));
}

fn cannot_sign(error: rcgen::Error) -> AppError {
    AppError::defect("a certificate cannot be made").caused_by(error)
}
