//! Where the service is that tells instances of themselves.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Domain, serde_as_text};

/// The address that instances ask for metadata; each finds its own host there (RFC 3927 §2.7: it is never
/// routed).
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The machine of a metadata service: a DNS name or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetadataHost(String);

/// Why a text is not a [`MetadataHost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadataHost {
    /// Neither a name nor an address.
    #[error("`{0}` is not a metadata host: use a DNS name or an address, without scheme and port")]
    Form(String),
    /// An address that no service has.
    #[error("`{0}` is not a metadata host: it is no machine's address")]
    NoMachine(IpAddr),
    /// What is asked there comes from where instances ask: it would go round, or out to whoever answers it.
    #[error(
        "`{METADATA_ADDRESS}` is not a metadata host: it is where instances ask, say where the service is"
    )]
    WhereInstancesAsk,
}

impl MetadataHost {
    /// The name or address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MetadataHost {
    type Err = InvalidMetadataHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<IpAddr>() {
            Ok(address) if address == METADATA_ADDRESS => Err(InvalidMetadataHost::WhereInstancesAsk),
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                Err(InvalidMetadataHost::NoMachine(address))
            }
            Ok(address) => Ok(Self(address.to_string())),
            // A name that ends in a number is a misspelt address (RFC 1123 §2.1).
            Err(_) if text.parse::<Domain>().is_ok() && !ends_in_number(text) => Ok(Self(text.to_owned())),
            Err(_) => Err(InvalidMetadataHost::Form(text.to_owned())),
        }
    }
}

fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for MetadataHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(MetadataHost);

/// The service that tells instances of themselves, by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetadataService {
    /// Its machine.
    pub host: MetadataHost,
    /// Its TCP port.
    pub port: NonZeroU16,
}

/// As it stands in a URL (RFC 3986 §3.2.2).
impl fmt::Display for MetadataService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.0.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_host_is_a_name_or_an_address() {
        for (text, service) in [
            ("10.0.0.5", "10.0.0.5:8775"),
            ("metadata.example.org", "metadata.example.org:8775"),
            ("meta", "meta:8775"),
            ("2001:DB8::5", "[2001:db8::5]:8775"),
        ] {
            let port = NonZeroU16::new(8775).unwrap();
            assert_eq!(MetadataService { host: text.parse().unwrap(), port }.to_string(), service);
        }
        for text in ["", "http://meta", "meta:8775", "10.0.0.300", "Meta", "0.0.0.0", "224.0.0.1", "::"] {
            let error = text.parse::<MetadataHost>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is not a metadata host")), "{error}");
        }
        let itself = "169.254.169.254".parse::<MetadataHost>();
        assert_eq!(itself, Err(InvalidMetadataHost::WhereInstancesAsk));
    }
}
