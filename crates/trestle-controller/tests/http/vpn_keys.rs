//! The keys of VPNs: good to others' programs, and nowhere that they should not be.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{PlayedAgent, TestServer, reqwest_client};

/// Blue has a VPN on host1, whose agent is connected, and a user `alice`, whose file this is.
async fn with_alice(kind: &str) -> (TestServer, PlayedAgent, String) {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    let agent = server.play_agent("host1", Vec::new()).await;
    server.done("/v1/vpns", &format!(r#"{{"project": "blue", "kind": "{kind}"}}"#)).await;
    let made = server.done("/v1/vpns/blue/users", r#"{"name": "alice"}"#).await;
    let config = made["config"].as_str().unwrap().to_owned();
    (server, agent, config)
}

/// What the host's agent is told, as JSON.
async fn identity(server: &TestServer) -> Value {
    let token = server.agent_token("host1").await;
    let url = format!("{}/v1/hosts/host1/vpns/blue-vpn/identity", server.url);
    reqwest_client().get(url).bearer_auth(token).send().await.unwrap().json().await.unwrap()
}

/// What stands between `<tag>` and `</tag>`.
fn inline<'a>(config: &'a str, tag: &str) -> &'a str {
    let (_, behind) = config.split_once(&format!("<{tag}>\n")).unwrap();
    behind.split_once(&format!("</{tag}>")).unwrap().0
}

/// Runs openssl on files of a folder; gives what it prints.
fn openssl(folder: &Path, line: &str) -> String {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A certificate as openssl tells it, without what differs from run to run.
fn certificate(folder: &Path, file: &str) -> String {
    let what = "-subject -issuer -ext basicConstraints,keyUsage,extendedKeyUsage,subjectAltName";
    let told = openssl(folder, &format!("x509 -in {file} -noout {what}"));
    let is_random = |word: &str| word.strip_prefix("alice-").is_some_and(|rest| rest.len() == 16);
    let steady = |line: &str| {
        line.split(' ')
            .map(|word| if is_random(word) { "alice-[digits]" } else { word })
            .collect::<Vec<_>>()
            .join(" ")
    };
    told.lines().map(str::trim_end).map(steady).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn another_program_takes_the_certificates_for_what_they_are_for() {
    let (server, _agent, config) = with_alice("openvpn").await;
    let identity = identity(&server).await;
    let folder = TempDir::new().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("ca.crt", inline(&config, "ca"));
    put("alice.crt", inline(&config, "cert"));
    put("alice.key", inline(&config, "key"));
    for name in ["server.crt", "server.key"] {
        put(name, identity["files"][name].as_str().unwrap());
    }
    assert_eq!(identity["files"]["ca.crt"].as_str().unwrap().trim(), inline(&config, "ca").trim());
    assert_eq!(identity["files"]["tls-crypt.key"].as_str().unwrap(), inline(&config, "tls-crypt"));
    let run = |line: &str| openssl(folder.path(), line);
    assert_eq!(run("verify -x509_strict -CAfile ca.crt -purpose sslclient alice.crt"), "alice.crt: OK\n");
    assert_eq!(run("verify -x509_strict -CAfile ca.crt -purpose sslserver server.crt"), "server.crt: OK\n");
    for wrong in ["sslserver alice.crt", "sslclient server.crt"] {
        let told = run(&format!("verify -CAfile ca.crt -purpose {wrong}"));
        assert!(told.contains("unsuitable certificate purpose"), "{told}");
    }
    for name in ["alice", "server"] {
        let of_key = run(&format!("pkey -in {name}.key -pubout"));
        assert_eq!(of_key, run(&format!("x509 -in {name}.crt -noout -pubkey")));
    }
    for file in ["ca.crt", "server.crt", "alice.crt"] {
        let dates = run(&format!("x509 -in {file} -noout -checkend 86400"));
        assert_eq!(dates, "Certificate will not expire\n");
    }
    let all = ["ca.crt", "server.crt", "alice.crt"].map(|file| certificate(folder.path(), file));
    assert_snapshot!(all.join("\n"), @"
    subject=CN = blue VPN CA
    issuer=CN = blue VPN CA
    X509v3 Key Usage: critical
        Certificate Sign, CRL Sign
    X509v3 Basic Constraints: critical
        CA:TRUE, pathlen:0
    subject=CN = blue-vpn
    issuer=CN = blue VPN CA
    X509v3 Subject Alternative Name:
        DNS:blue-vpn
    X509v3 Key Usage: critical
        Digital Signature
    X509v3 Extended Key Usage:
        TLS Web Server Authentication
    X509v3 Basic Constraints: critical
        CA:FALSE
    subject=CN = alice-[digits]
    issuer=CN = blue VPN CA
    X509v3 Key Usage: critical
        Digital Signature
    X509v3 Extended Key Usage:
        TLS Web Client Authentication
    X509v3 Basic Constraints: critical
        CA:FALSE
    ");
    let serials =
        ["ca.crt", "server.crt", "alice.crt"].map(|file| run(&format!("x509 -in {file} -noout -serial")));
    assert!(serials.iter().all(|serial| serial.trim().len() > "serial=".len() + 24), "{serials:?}");
}

#[tokio::test]
async fn a_wireguard_user_s_keys_belong_together() {
    let (server, _agent, config) = with_alice("wireguard").await;
    let identity = identity(&server).await;
    let value = |name: &str| {
        let line = config.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(" = ").unwrap().1.to_owned()
    };
    let keys = [value("PrivateKey"), value("PublicKey")];
    let shown = keys.iter().fold(config.clone(), |shown, key| shown.replace(key, "[key]"));
    let shown: Vec<&str> = shown.lines().filter(|line| !line.starts_with("# VPN of")).collect();
    assert_snapshot!(shown.join("\n"), @"
    # Keep it secret: who has it comes in as alice. Nobody can show it again.
    [Interface]
    PrivateKey = [key]
    Address = 10.1.0.4/32
    # DNS = 10.1.0.1, trestle.internal  # uncomment where resolvconf or systemd-resolved is installed
    MTU = 1420

    [Peer]
    PublicKey = [key]
    Endpoint = 203.0.113.1:1000
    AllowedIPs = 10.1.0.0/24
    PersistentKeepalive = 25
    ");
    let private = identity["files"]["private.key"].as_str().unwrap().trim().to_owned();
    assert_ne!(private, keys[0]);
    assert_eq!(public_of(&private), keys[1], "clients are shown what belongs to the server's own key");
    let refused = server.refused("/v1/vpns/blue/renew-ca", "").await;
    assert!(refused.contains("no_authority"), "{refused}");
    let list = server.raw(Method::GET, "/v1/vpns/blue", "").await;
    assert!(list.contains("\"ca_expires_at\": null"), "{list}");
}

/// The public key of an X25519 key, both in base64, as openssl works it out (RFC 8410).
fn public_of(private: &str) -> String {
    let folder = TempDir::new().unwrap();
    let raw = STANDARD.decode(private).unwrap();
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20];
    std::fs::write(folder.path().join("key.der"), [&head[..], &raw].concat()).unwrap();
    let told = openssl(folder.path(), "pkey -inform DER -in key.der -pubout -outform DER -out public.der");
    assert_eq!(told, "");
    let public = std::fs::read(folder.path().join("public.der")).unwrap();
    STANDARD.encode(&public[public.len() - 32..])
}

#[tokio::test]
async fn no_private_key_is_in_any_other_answer_nor_in_the_database() {
    for kind in ["openvpn", "wireguard"] {
        let (server, _agent, config) = with_alice(kind).await;
        let identity = identity(&server).await;
        let renewed = server.done("/v1/vpns/blue/users/alice/renew", "{}").await;
        let mut secrets = Vec::new();
        let texts = [&config, renewed["config"].as_str().unwrap()].map(str::to_owned);
        let files = identity["files"].as_object().unwrap();
        for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".key")) {
            assert!(!name.is_empty());
            secrets.extend(secret_lines(text.as_str().unwrap()));
        }
        for text in &texts {
            match kind {
                "openvpn" => secrets.extend(secret_lines(inline(text, "key"))),
                _ => secrets.extend(
                    text.lines()
                        .find(|line| line.starts_with("PrivateKey"))
                        .map(|line| line["PrivateKey = ".len()..].to_owned()),
                ),
            }
        }
        assert!(secrets.len() >= 3, "{kind}: {secrets:?}");
        let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
        for path in [
            "projects",
            "networks",
            "instances",
            "fixed-ips",
            "pools",
            "floating-ips",
            "security-groups",
            "hosts",
            "events",
            "vpns",
            "vpns/blue",
            "vpns/blue/users",
            "instances/blue-vpn",
            "hosts/host1/spec",
            "tokens",
        ] {
            let url = format!("{}/v1/{path}", server.url);
            let answer = reqwest_client().get(url).bearer_auth(&server.admin_token).send().await.unwrap();
            assert!(answer.status().is_success(), "{path}");
            seen.push((path.to_owned(), answer.bytes().await.unwrap().to_vec()));
        }
        for entry in std::fs::read_dir(server.state_dir.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let name = entry.file_name().into_string().unwrap();
                seen.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
        assert!(seen.iter().any(|(name, bytes)| name == "trestle.db" && !bytes.is_empty()));
        for (place, bytes) in &seen {
            for secret in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a key of {kind} is in {place}");
            }
        }
        server.stop().await;
    }
}

/// The lines of a key that nothing else has: not its frame, nor the beginning that all keys of a kind have.
fn secret_lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("-----") && !line.is_empty());
    lines.map(|line| line[line.len() / 2..].to_owned()).filter(|line| line.len() > 8).collect()
}
