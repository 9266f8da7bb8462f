//! The proxy between guests, which are addresses of the loopback device here, and a service of a few lines.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use trestle_core::types::{InstanceId, MetadataService, ProjectId};
use uuid::Uuid;

use super::proxy::{self, Proxy};
use super::*;

const WEB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);
const DB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

fn identity(number: u128) -> Identity {
    let (instance, project) = (Uuid::from_u128(number), Uuid::from_u128(100 + number));
    Identity { instance: InstanceId(instance), project: ProjectId(project) }
}

/// A proxy at work.
struct Stage {
    port: u16,
    identities: Arc<Identities>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Stage {
    /// With a service that answers with what it was sent.
    async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::with(port, tokio::spawn(echo(listener))).await
    }

    async fn with(service: u16, echo: JoinHandle<()>) -> Self {
        let identities = Arc::new(Identities::default());
        identities.lock().extend([(WEB, identity(1)), (DB, identity(2))]);
        let service = MetadataService {
            host: Ipv4Addr::LOCALHOST.to_string().parse().unwrap(),
            port: service.try_into().unwrap(),
        };
        let proxy = Proxy { service, identities: identities.clone(), secret: None };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tasks = [proxy::start_on(listener, proxy), echo];
        Self { port, identities, tasks }
    }

    async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, self.port).into()).await.unwrap()
    }

    /// What a guest is answered that says this and no more.
    async fn answer(&self, from: Ipv4Addr, said: &str) -> String {
        let mut stream = self.connect(from).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    /// What the service is sent when the guest says this, a line each, sorted; without its first line.
    async fn sent(&self, from: Ipv4Addr, said: &str) -> String {
        let answer = self.answer(from, &format!("{said}Connection: close\r\n\r\n")).await;
        let (_, sent) = answer.split_once("\r\n\r\n").unwrap();
        sent.replace('\r', "")
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Answers each request with all that was sent, body and all.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut sent = String::new();
            while !is_whole(&sent) {
                let mut bytes = [0; 4096];
                match stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => sent.push_str(&String::from_utf8_lossy(&bytes[..length])),
                }
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{sent}", sent.len());
            drop(stream.write_all(answer.as_bytes()).await);
        });
    }
}

fn is_whole(sent: &str) -> bool {
    let Some((head, body)) = sent.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| length.parse() == Ok(body.len()))
}

#[tokio::test]
async fn the_service_is_told_who_asks_whatever_the_guest_says() {
    let stage = Stage::new().await;
    let forged = "GET /latest/meta-data/?a=b HTTP/1.1\r\nHost: 169.254.169.254\r\n\
        X-Instance-ID: forged\r\nx-instance-id: forged\r\nX_Instance_ID: forged\r\nX-TENANT-ID: forged\r\n\
        X-Forwarded-For: 127.0.0.6\r\nX-Instance-ID-Signature: forged\r\nMetadata-Flavor: any\r\n";
    let sent = stage.sent(WEB, forged).await;
    let mut lines: Vec<&str> = sent.lines().collect();
    lines.sort_unstable();
    let host =
        format!("host: 127.0.0.1:{}", sent.split("127.0.0.1:").nth(1).unwrap().lines().next().unwrap());
    assert_eq!(
        lines,
        [
            "",
            "GET /latest/meta-data/?a=b HTTP/1.1",
            &host,
            "metadata-flavor: any",
            "x-forwarded-for: 127.0.0.5",
            "x-instance-id: 00000000-0000-0000-0000-000000000001",
            "x-tenant-id: 00000000-0000-0000-0000-000000000065",
        ]
    );
    let sent = stage.sent(DB, "GET / HTTP/1.1\r\nHost: x\r\n").await;
    assert!(sent.contains("x-instance-id: 00000000-0000-0000-0000-000000000002\n"), "{sent}");
}

#[tokio::test]
async fn what_a_guest_sends_goes_on_whole_and_no_more_than_that() {
    let stage = Stage::new().await;
    let smuggled = "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nX-Instance-ID: forged\r\n\r\n";
    let answer = stage.answer(WEB, smuggled).await;
    assert!(answer.contains("POST /a HTTP/1.1\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(answer.contains("content-length: 5\r\n") && !answer.contains("chunked"), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
    let absolute = stage.sent(WEB, "GET http://elsewhere.example/c HTTP/1.1\r\nHost: elsewhere\r\n").await;
    assert!(absolute.starts_with("GET /c HTTP/1.1\n") && !absolute.contains("elsewhere"), "{absolute}");
}

#[tokio::test]
async fn who_cannot_be_answered_is_told_why() {
    let stage = Stage::new().await;
    let check = async |from, said: &str, status: &str, why: &str| {
        let answer = stage.answer(from, said).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(why), "{answer}");
    };
    let get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    check(STRANGER, get, "404", "no instance of this host has the address 127.0.0.7\n").await;
    check(WEB, "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\nConnection: close\r\n\r\n", "400", "no path").await;
    let large = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\nConnection: close\r\n\r\n";
    check(WEB, large, "413", "more than 1048576 bytes").await;
    check(WEB, "nonsense\r\n\r\n", "400", "").await;

    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let alone = Stage::with(port, tokio::spawn(async {})).await;
    let answer = alone.answer(WEB, get).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.ends_with("the metadata service cannot be reached\n"), "{answer}");
}

/// Each of them is given up after five seconds.
#[tokio::test]
async fn nobody_slow_is_waited_for() {
    let stage = Stage::new().await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let unanswered = Stage::with(silent.local_addr().unwrap().port(), tokio::spawn(async {})).await;
    let part_of_body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\npart";
    let whole = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (of_head, of_body, of_service) = tokio::join!(
        stage.answer(WEB, "GET / HTTP/1.1\r\nHost: x\r\n"),
        stage.answer(WEB, part_of_body),
        unanswered.answer(WEB, whole),
    );
    assert!(!of_head.contains(" 200 "), "{of_head}");
    assert!(of_body.starts_with("HTTP/1.1 408") && of_body.contains("within 5 seconds"), "{of_body}");
    assert!(
        of_service.starts_with("HTTP/1.1 502") && of_service.contains("within 5 seconds"),
        "{of_service}"
    );
}

#[tokio::test]
async fn a_connection_is_nobody_s_when_its_address_is_another_one_s() {
    let stage = Stage::new().await;
    let mut stream = stage.connect(WEB).await;
    stream.write_all(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut bytes = [0; 4096];
    let length = stream.read(&mut bytes).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes[..length]).starts_with("HTTP/1.1 200"));
    stage.identities.lock().insert(WEB, identity(3));
    stream.write_all(b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = read(&mut stream).await;
    assert!(answer.contains("HTTP/1.1 404") && !answer.contains("000000000003"), "{answer}");
}

#[tokio::test]
async fn one_guest_takes_no_more_connections_than_its_own() {
    let stage = Stage::new().await;
    let mut held = Vec::new();
    for _ in 0..proxy::MOST_OF_ONE {
        held.push(stage.connect(WEB).await);
    }
    // In the order of their coming: this one is answered after those were taken in.
    stage.sent(DB, "GET / HTTP/1.1\r\nHost: x\r\n").await;
    let mut refused = stage.connect(WEB).await;
    assert_eq!(refused.read(&mut [0; 1]).await.unwrap(), 0, "one more is not taken");
    drop(held);
    let mut answered = String::new();
    while !answered.contains(" 200 OK") {
        let mut stream = stage.connect(WEB).await;
        // It may be closed at once as long as those are not seen to have gone.
        let said = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        drop(stream.write_all(said.as_bytes()).await);
        drop(stream.read_to_string(&mut answered).await);
    }
}

#[tokio::test]
async fn what_answers_is_seen_and_ends_when_it_is_stopped() {
    let metadata = Metadata::new(None);
    let port = {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        free.local_addr().unwrap().port()
    };
    let service =
        |port: u16| MetadataService { host: "meta".parse().unwrap(), port: port.try_into().unwrap() };
    let key = Key::MetadataProxy(port);
    for number in [1, 2] {
        metadata.start(port, &service(number)).await.unwrap();
        assert_eq!(metadata.get(&key), Some(Object::MetadataProxy(service(number))));
    }
    metadata.put(WEB, identity(1));
    assert_eq!(metadata.all().into_keys().collect::<Vec<_>>(), [Key::Metadata(WEB), key.clone()]);
    metadata.delete(WEB);
    metadata.stop(port).await;
    assert!(metadata.all().is_empty());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err());
}
