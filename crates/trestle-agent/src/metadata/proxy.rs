//! The proxy between instances and the metadata service.
//!
//! Guests write what they like: none of them may hold up the others, or the agent. The packet filter lets
//! nothing come here that a guest of this host's networks did not send to `METADATA_ADDRESS`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use trestle_core::types::MetadataService;

use super::{Identities, Identity, MetadataSecret, headers};
use crate::error_chain;

/// How long a guest has to say what it asks, and the service to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may last in all, so that nobody is answered slowly for ever.
const LIFETIME: Duration = Duration::from_secs(60);
/// How many connections are answered at a time. Each takes two files of the agent's, of 1,024 that a process
/// has unless told otherwise.
const MOST: usize = 256;
/// How many of them one guest may have.
pub(super) const MOST_OF_ONE: usize = 8;
/// How much a guest may send, in bytes.
const MOST_SENT: usize = 1 << 20;
/// How much of it is held before it is understood, headers above all, in bytes.
const MOST_HELD: usize = 64 << 10;
/// How long nothing is accepted after that failed: most likely the agent has no file left.
const PAUSE: Duration = Duration::from_millis(100);

/// What is answered from: the service's answer as it comes, or a sentence of ours.
type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// Whom to ask, and who asks.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) service: MetadataService,
    pub(super) identities: Arc<Identities>,
    pub(super) secret: Option<Arc<MetadataSecret>>,
}

/// Why the service's answer cannot be given.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no instance of this host has the address {0}")]
    Nobody(Ipv4Addr),
    #[error("the request has no path")]
    NoPath,
    #[error("the request cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the request has more than {MOST_SENT} bytes")]
    TooLarge,
    #[error("the request did not come within {} seconds", PATIENCE.as_secs())]
    TooSlow,
    #[error("the metadata service cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("the metadata service does not answer")]
    Unanswered(#[source] hyper::Error),
    #[error("the metadata service does not answer within {} seconds", PATIENCE.as_secs())]
    ServiceTooSlow,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Nobody(_) => StatusCode::NOT_FOUND,
            Self::NoPath | Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unreachable(_) | Self::Unanswered(_) | Self::ServiceTooSlow => StatusCode::BAD_GATEWAY,
        }
    }

    fn answer(&self) -> Answer {
        let mut answer = Response::new(Either::Right(Full::from(format!("{self}\n"))));
        *answer.status_mut() = self.status();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    }
}

/// Answers on a port until the task is aborted.
pub(super) async fn start(port: u16, proxy: Proxy) -> io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    Ok(start_on(listener, proxy))
}

pub(super) fn start_on(listener: TcpListener, proxy: Proxy) -> JoinHandle<()> {
    let serving = Serving { proxy, seats: Mutex::default(), is_answered: AtomicBool::new(true) };
    tokio::spawn(serve(listener, Arc::new(serving)))
}

/// The proxy at work.
#[derive(Debug)]
struct Serving {
    proxy: Proxy,
    /// How many connections each address has.
    seats: Mutex<BTreeMap<Ipv4Addr, usize>>,
    /// Whether the service answered what it was asked last.
    is_answered: AtomicBool,
}

/// What is being answered ends with this.
async fn serve(listener: TcpListener, serving: Arc<Serving>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST => match accepted {
                Ok((stream, SocketAddr::V4(peer))) => {
                    if let Some(seat) = Seat::take(&serving, *peer.ip()) {
                        connections.spawn(seat.answer(stream));
                    }
                }
                Ok((_, SocketAddr::V6(_))) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot take a request for metadata");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One of the connections that an address may have.
struct Seat {
    serving: Arc<Serving>,
    address: Ipv4Addr,
}

impl Seat {
    /// Nothing if the address has as many as it may.
    fn take(serving: &Arc<Serving>, address: Ipv4Addr) -> Option<Self> {
        let mut seats = serving.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(address).or_default();
        if *taken == MOST_OF_ONE {
            return None;
        }
        *taken += 1;
        Some(Self { serving: Arc::clone(serving), address })
    }

    /// Answers what comes by the connection. What goes wrong with it is the guest's own doing, and nobody
    /// else's concern.
    async fn answer(self, stream: TcpStream) {
        let whose = self.serving.proxy.identities.get(self.address);
        let answer = service_fn(async |request| {
            let answer = self.pass_on(whose, request).await;
            Ok::<Answer, Infallible>(
                answer.map_or_else(|refusal| refusal.answer(), |answer| answer.map(Either::Left)),
            )
        });
        let mut http = server::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MOST_HELD);
        drop(timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), answer)).await);
    }

    /// `whose` the connection was when it began: the address may be another one's since.
    async fn pass_on(
        &self,
        whose: Option<Identity>,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Refusal> {
        let Serving { proxy, .. } = &*self.serving;
        let identity = proxy.identities.get(self.address).filter(|now| whose == Some(*now));
        let identity = identity.ok_or(Refusal::Nobody(self.address))?;
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned().ok_or(Refusal::NoPath)?;
        let mut asked = Request::new(Full::from(whole(body).await?));
        *asked.method_mut() = head.method;
        *asked.uri_mut() = Uri::from(path);
        *asked.headers_mut() = proxy.headers(head.headers, self.address, identity);
        let answer = proxy.ask(asked).await;
        self.serving.note(&answer);
        let mut answer = answer?;
        headers::leave_connection(answer.headers_mut());
        Ok(answer)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.serving.seats.lock().unwrap_or_else(PoisonError::into_inner);
        match seats.get_mut(&self.address) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(seats.remove(&self.address)),
        }
    }
}

impl Serving {
    /// Says when the service begins not to answer, and when it answers again.
    fn note(&self, answer: &Result<Response<Incoming>, Refusal>) {
        let was_answered = self.is_answered.swap(answer.is_ok(), Ordering::Relaxed);
        let service = &self.proxy.service;
        match answer {
            Err(error) if was_answered => {
                tracing::warn!(%service, error = error_chain(error), "instances are told nothing of themselves");
            }
            Ok(_) if !was_answered => tracing::info!(%service, "the metadata service answers again"),
            _ => {}
        }
    }
}

impl Proxy {
    fn headers(&self, mut headers: HeaderMap, address: Ipv4Addr, identity: Identity) -> HeaderMap {
        headers::leave_connection(&mut headers);
        headers::say_who_asks(&mut headers, address, identity, self.secret.as_deref());
        // The length is of what is sent, which was taken in whole.
        headers.remove(CONTENT_LENGTH);
        let host = self.service.to_string();
        headers.insert(HOST, HeaderValue::try_from(host).expect("a name or an address is plain text"));
        headers
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Refusal> {
        let MetadataService { host, port } = &self.service;
        let asking = async {
            let stream =
                TcpStream::connect((host.as_str(), port.get())).await.map_err(Refusal::Unreachable)?;
            let shaken = client::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = shaken.map_err(Refusal::Unanswered)?;
            // It carries the answer's body, and ends with it.
            tokio::spawn(timeout(LIFETIME, connection));
            sender.send_request(request).await.map_err(Refusal::Unanswered)
        };
        timeout(PATIENCE, asking).await.unwrap_or(Err(Refusal::ServiceTooSlow))
    }
}

/// All of what a guest sends.
async fn whole(body: Incoming) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > MOST_SENT as u64 {
        return Err(Refusal::TooLarge);
    }
    let collecting = timeout(PATIENCE, Limited::new(body, MOST_SENT).collect());
    match collecting.await.map_err(|_| Refusal::TooSlow)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Err(error) => Err(Refusal::Unreadable(error)),
    }
}
