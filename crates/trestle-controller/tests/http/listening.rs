//! Where the server listens, and where it refuses to.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use trestle_api::agent::SpecQuery;
use trestle_api::{Client, ClientConfig, ClientError, EventFilter, PageQuery};
use trestle_controller::app::App;
use trestle_controller::config::ControllerConfig;
use trestle_controller::server::{ServeError, Server};

use crate::harness::{DEADLINE, TestServer, client};

async fn refusal(adjust: impl FnOnce(&mut ControllerConfig)) -> ServeError {
    let mut config = ControllerConfig::default();
    adjust(&mut config);
    match Server::bind(&config).await {
        Err(error) => error,
        Ok(server) => panic!("listens on {:?}", server.urls()),
    }
}

/// As the binary prints it.
fn told(error: &ServeError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("\ncaused by: {error}");
        cause = error.source();
    }
    error.hint().map_or(text.clone(), |hint| format!("{text}\nhint: {hint}"))
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=trestle", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl, Debian package `openssl`, is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

#[tokio::test]
async fn other_machines_are_not_let_in_without_tls() {
    let error = refusal(|config| config.listen = Some(vec!["0.0.0.0:0".to_owned()])).await;
    assert_snapshot!(told(&error), @r"
    refusing to listen on 0.0.0.0:0 without TLS: other machines can reach it
    hint: give `tls_cert` and `tls_key`, or listen on 127.0.0.1, or, on a network where nobody listens in, say `insecure`
    ");
    let error = refusal(|config| config.listen = Some(vec!["[::]:0".to_owned()])).await;
    assert!(matches!(error, ServeError::Unprotected { .. }));
    let config = ControllerConfig {
        listen: Some(vec!["0.0.0.0:0".to_owned()]),
        insecure: true,
        ..ControllerConfig::default()
    };
    assert!(Server::bind(&config).await.is_ok());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let error = refusal(|config| config.listen = Some(vec![address.clone()])).await;
    assert_snapshot!(told(&error).replace(&address, "127.0.0.1:7117"), @r"
    cannot listen on 127.0.0.1:7117: address in use
    hint: `ss -lntxp` shows the program that has it; stop that or choose another address with `listen`
    ");
}

#[tokio::test]
async fn what_is_not_an_address_is_refused() {
    for wrong in ["7117", "127.0.0.1", "127.0.0.1:http", "unix:relative.sock", ""] {
        let error = refusal(|config| config.listen = Some(vec![wrong.to_owned()])).await;
        assert!(matches!(error, ServeError::BadAddress { .. }), "{wrong}: {error:?}");
    }
    let error = refusal(|config| config.listen = Some(vec!["7117".to_owned()])).await;
    assert_snapshot!(told(&error), @r"
    `7117` is not an address to listen on
    hint: write 127.0.0.1:7117, [::1]:7117 or unix:/path/to/socket
    ");
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_gone_at_the_end() {
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec![format!("unix:{}", config.socket_path().display())]);
    })
    .await;
    let path = server.state_dir.path().join("trestle.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    server.admin.list_projects(&PageQuery::default()).await.unwrap();

    let error = refusal(|config| config.listen = Some(vec![server.url.clone()])).await;
    let shown = told(&error).replace(&path.display().to_string(), "/run/trestle.sock");
    assert_snapshot!(shown, @r"
    cannot listen on unix:/run/trestle.sock: address in use
    hint: `ss -lntxp` shows the program that has it; stop that or choose another address with `listen`
    ");
    server.admin.health().await.expect("the refusal disturbed nobody");
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_is_taken_over_and_a_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut config = ControllerConfig::in_state_dir(folder.path());
    config.listen = Some(vec![format!("unix:{}", path.display())]);
    drop(Server::bind(&config).await.unwrap());

    std::fs::write(&path, "somebody's").unwrap();
    let error = refusal(|other| other.listen = config.listen.clone()).await;
    let shown = told(&error).replace(&path.display().to_string(), "/run/trestle.sock");
    assert_snapshot!(shown, @r"
    cannot listen on unix:/run/trestle.sock: something that is not a socket is in the way
    hint: move it away or choose another path with `listen`
    ");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's");
}

#[tokio::test]
async fn tls_is_served_to_who_trusts_the_certificate_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), "server");
    let (other_cert, _) = certificate(folder.path(), "other");
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec!["127.0.0.1:0".to_owned()]);
        config.tls_cert = Some(cert.clone());
        config.tls_key = Some(key);
    })
    .await;
    let trusting = |ca: &Path| {
        let token = Some(server.admin_token.clone());
        Client::new(ClientConfig { url: server.url.clone(), token, ca_cert: Some(ca.to_owned()) }).unwrap()
    };
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    trusting(&cert).list_projects(&PageQuery::default()).await.unwrap();
    let error = trusting(&other_cert).health().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    let plain = client(&server.url.replace("https", "http"), None);
    assert!(plain.health().await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn wrong_tls_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), "one");
    let (_, other_key) = certificate(folder.path(), "two");
    let missing = folder.path().join("missing.crt");
    let with = async |cert: Option<&Path>, key: Option<&Path>| {
        let error = refusal(|config| {
            config.tls_cert = cert.map(Path::to_owned);
            config.tls_key = key.map(Path::to_owned);
        })
        .await;
        told(&error).replace(&folder.path().display().to_string(), "/etc/trestle")
    };
    assert_snapshot!(with(Some(&missing), Some(&key)).await, @r"
    cannot read the TLS certificate in /etc/trestle/missing.crt
    caused by: I/O error: No such file or directory (os error 2)
    hint: both files are PEM; the certificate's file begins with the server's own, its issuers follow
    ");
    assert_snapshot!(with(Some(&key), Some(&key)).await, @r"
    cannot read the TLS certificate in /etc/trestle/one.key
    caused by: no items found
    hint: both files are PEM; the certificate's file begins with the server's own, its issuers follow
    ");
    assert_snapshot!(with(Some(&cert), Some(&cert)).await, @r"
    cannot read the TLS key in /etc/trestle/one.crt
    caused by: no items found
    hint: both files are PEM; the certificate's file begins with the server's own, its issuers follow
    ");
    assert_snapshot!(with(Some(&cert), Some(&other_key)).await, @r"
    the TLS certificate in /etc/trestle/one.crt and the key in /etc/trestle/two.key cannot be used together
    caused by: keys may not be consistent: KeyMismatch
    hint: both files are PEM; the certificate's file begins with the server's own, its issuers follow
    ");
    assert_snapshot!(with(Some(&cert), None).await, @"TLS needs both `tls_cert` and `tls_key`, only one is given");
}

#[tokio::test]
async fn long_polls_and_streams_end_with_the_server_at_once() {
    let server = TestServer::start().await;
    server.furnish().await;
    let agent = server.client(&server.agent_token("host1").await);
    let whole = agent.spec("host1", &SpecQuery::default()).await.unwrap().expect("everything");
    let waiting = SpecQuery { since: Some(whole.generation), wait: Some(60) };
    let poll = tokio::spawn(async move { agent.spec("host1", &waiting).await });
    let nothing = EventFilter { kind: Some("nothing".to_owned()), ..EventFilter::default() };
    let mut stream = server.admin.events_stream(&nothing, None).await.unwrap();
    // A host is connected while its agent waits.
    let connected = async {
        while !server.admin.host("host1").await.unwrap().status.connected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, connected).await.expect("the poll waits");
    server.stop().await;
    assert_eq!(poll.await.unwrap().unwrap(), None);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_not_kept() {
    let server = TestServer::start().await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut nothing = Vec::new();
    let hung_up = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut nothing);
    tokio::time::timeout(DEADLINE, hung_up).await.expect("the server hangs up").unwrap();
    assert_eq!(nothing, b"");
    server.stop().await;
}

#[tokio::test]
async fn a_database_server_that_is_away_is_told_with_its_cause_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = ControllerConfig::in_state_dir(folder.path());
    config.database = Some(format!("postgres://trestle:secret@{free}/trestle"));
    let begun = std::time::Instant::now();
    let error = App::open(&config).await.err().expect("there is no database");
    assert!(begun.elapsed() < Duration::from_secs(5), "it is known at once: {error:?}");
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("\ncaused by: {error}");
        cause = error.source();
    }
    assert_snapshot!(text.replace(&free.to_string(), "db"), @"
    cannot use the database postgres://trestle:…@db/trestle
    caused by: cannot connect to it
    caused by: error communicating with database: Connection refused (os error 111)
    caused by: Connection refused (os error 111)
    ");
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_with_the_cause() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(&format!("http://{free}"), None).health().await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("\ncaused by: {error}");
        cause = error.source();
    }
    assert_snapshot!(text.replace(&free.to_string(), "127.0.0.1:7117"), @r"
    cannot reach the controller at http://127.0.0.1:7117
    caused by: error sending request
    caused by: client error (Connect)
    caused by: tcp connect error
    caused by: Connection refused (os error 111)
    ");
}

#[test]
fn a_client_is_not_made_from_nonsense() {
    let told = |url: &str, token: Option<&str>, ca: Option<&str>| {
        let config = ClientConfig {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            ca_cert: ca.map(PathBuf::from),
        };
        Client::new(config).unwrap_err().to_string()
    };
    let messages = [
        told("127.0.0.1:7117", None, None),
        told("ftp://127.0.0.1", None, None),
        told("unix:trestle.sock", None, None),
        told("http://127.0.0.1:7117", Some("a\nb"), None),
        told("https://127.0.0.1:7117", None, Some("/nonexistent/ca.pem")),
        told("https://127.0.0.1:7117", None, Some("/dev/null")),
    ];
    assert_snapshot!(messages.join("\n"), @r"
    `127.0.0.1:7117` is not the URL of a controller: write http://host:port, https://host:port or unix:/path
    `ftp://127.0.0.1` is not the URL of a controller: write http://host:port, https://host:port or unix:/path
    `unix:trestle.sock` is not the URL of a controller: write http://host:port, https://host:port or unix:/path
    the token has characters that no token has, such as a line break
    cannot read the CA certificates in /nonexistent/ca.pem
    no PEM certificate in /dev/null
    ");
}
