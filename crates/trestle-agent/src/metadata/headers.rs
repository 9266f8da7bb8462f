//! What a request says of who asks: ours, and nothing that the guest wrote.

use std::net::Ipv4Addr;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::{Identity, MetadataSecret};

const FORWARDED_FOR: &str = "x-forwarded-for";
const INSTANCE: &str = "x-instance-id";
const PROJECT: &str = "x-tenant-id";
const SIGNATURE: &str = "x-instance-id-signature";

/// What says who asks, or may be taken for it. The last two are standard and usual names of the first.
const OF_WHO_ASKS: [&str; 6] = [FORWARDED_FOR, INSTANCE, PROJECT, SIGNATURE, "forwarded", "x-real-ip"];

/// What is about one connection alone (RFC 9110 §7.6.1), or about how a body comes by it.
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Takes out what is about the connection that it came by, and what the sender says is.
pub(super) fn leave_connection(headers: &mut HeaderMap) {
    let connection = headers.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> =
        connection.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    retain(headers, |name| {
        !OF_THE_CONNECTION.contains(&name.as_str()) && !named.iter().any(|named| named == name.as_str())
    });
}

/// Says who asks, in place of all that is said of it already.
pub(super) fn say_who_asks(
    headers: &mut HeaderMap,
    address: Ipv4Addr,
    identity: Identity,
    secret: Option<&MetadataSecret>,
) {
    retain(headers, |name| !is_of_who_asks(name));
    let mut say = |name, value: String| {
        let value = HeaderValue::try_from(value).expect("addresses and numbers are plain text");
        headers.insert(HeaderName::from_static(name), value);
    };
    say(FORWARDED_FOR, address.to_string());
    say(INSTANCE, identity.instance.to_string());
    say(PROJECT, identity.project.to_string());
    if let Some(secret) = secret {
        say(SIGNATURE, secret.sign(identity.instance));
    }
}

/// Programs behind CGI and WSGI cannot tell `X_Instance_ID` from `X-Instance-ID` (RFC 3875 §4.1.18), and some
/// take other marks for the same.
fn is_of_who_asks(name: &HeaderName) -> bool {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.as_str().chars().map(plain).collect();
    OF_WHO_ASKS.contains(&&name[..])
}

fn retain(headers: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| !keeps(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trestle_core::types::{InstanceId, ProjectId};

    fn check(headers: &[(&str, &str)]) -> String {
        let pairs = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        leave_connection(&mut headers);
        let identity = Identity {
            instance: InstanceId(uuid::Uuid::from_u128(1)),
            project: ProjectId(uuid::Uuid::from_u128(2)),
        };
        say_who_asks(&mut headers, Ipv4Addr::new(10, 0, 0, 5), identity, None);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn only_we_say_who_asks() {
        insta::assert_snapshot!(check(&[
            ("X-Instance-ID", "forged"),
            ("x-instance-id", "forged again"),
            ("X_Instance_ID", "forged"),
            ("X-Instance_ID", "forged"),
            ("X.Instance.ID", "forged"),
            ("X-Tenant-Id", "forged"),
            ("X-Instance-ID-Signature", "forged"),
            ("X-Forwarded-For", "10.0.0.6"),
            ("Forwarded", "for=10.0.0.6"),
            ("X-Real-IP", "10.0.0.6"),
            ("Connection", "close, X-Instance-ID"),
            ("Metadata-Flavor", "Trestle"),
            ("Accept", "text/plain"),
            ("Accept", "text/html"),
        ]), @"
        accept: text/html
        accept: text/plain
        metadata-flavor: Trestle
        x-forwarded-for: 10.0.0.5
        x-instance-id: 00000000-0000-0000-0000-000000000001
        x-tenant-id: 00000000-0000-0000-0000-000000000002
        ");
    }

    #[test]
    fn what_is_about_a_connection_stays_on_it() {
        insta::assert_snapshot!(check(&[
            ("Connection", "Keep-Alive , x-secret"),
            ("Connection", "upgrade"),
            ("Keep-Alive", "timeout=5"),
            ("X-Secret", "of this connection"),
            ("Transfer-Encoding", "chunked"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("X-Other", "kept"),
        ]), @"
        x-forwarded-for: 10.0.0.5
        x-instance-id: 00000000-0000-0000-0000-000000000001
        x-other: kept
        x-tenant-id: 00000000-0000-0000-0000-000000000002
        ");
    }
}
