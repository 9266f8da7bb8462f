//! Listening: TCP, TLS and Unix sockets in front of [`crate::http`].
//!
//! One accept loop serves them all. Nothing here knows what a request means, and no address
//! beyond loopback is opened without TLS unless the operator says `insecure`.

mod listen;
mod tls;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::listen::{Accepted, Listener, Protection};
use crate::app::App;
use crate::config::ControllerConfig;
use crate::http;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may say nothing.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many connections an address has at once; more wait in the kernel's queue. Each of a
/// thousand hosts has two or three.
const MOST_CONNECTIONS: usize = 8192;
/// How long a connection may idle, or dawdle over a request's head. Longer than a client of ours
/// keeps an idle connection (90 s), so that it is not closed under a request just sent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long requests under way may take once the server is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when the kernel gives no more connections: it would say so again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder, in which the local socket is, cannot be made.
    #[error("cannot use the state folder {}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither `host:port` nor `unix:/path`.
    #[error("`{address}` is not an address to listen on")]
    BadAddress {
        /// What was given.
        address: String,
    },
    /// The host of `host:port` is not known.
    #[error("cannot find the address of `{address}`")]
    Lookup {
        /// What was given.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Reachable from other machines, without TLS.
    #[error("refusing to listen on {address} without TLS: other machines can reach it")]
    Unprotected {
        /// What was given.
        address: String,
    },
    /// Another program listens there.
    #[error("cannot listen on {address}: address in use")]
    InUse {
        /// What was given.
        address: String,
    },
    /// The kernel refuses.
    #[error("cannot listen on {address}")]
    Bind {
        /// What was given.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something that is not a socket has the path.
    #[error("cannot listen on unix:{}: something that is not a socket is in the way", path.display())]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("TLS needs both `tls_cert` and `tls_key`, only one is given")]
    HalfTls,
    /// A certificate or key file cannot be read, or has nothing of the kind in it.
    #[error("cannot read the {what} in {}", path.display())]
    Pem {
        /// `TLS certificate` or `TLS key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The key is another certificate's, or of a kind that TLS does not use.
    #[error("the TLS certificate in {} and the key in {} cannot be used together", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadAddress { .. } => Some("write 127.0.0.1:7117, [::1]:7117 or unix:/path/to/socket"),
            Self::Unprotected { .. } => Some(
                "give `tls_cert` and `tls_key`, or listen on 127.0.0.1, or, on a network where nobody listens in, say `insecure`",
            ),
            Self::InUse { .. } => Some(
                "`ss -lntxp` shows the program that has it; stop that or choose another address with `listen`",
            ),
            Self::InTheWay { .. } => Some("move it away or choose another path with `listen`"),
            Self::Pem { .. } | Self::Mismatch { .. } => Some(
                "both files are PEM; the certificate's file begins with the server's own, its issuers follow",
            ),
            Self::StateDir { .. } | Self::Lookup { .. } | Self::Bind { .. } | Self::HalfTls => None,
        }
    }
}

/// A server that holds its addresses and does not answer yet.
pub struct Server {
    listeners: Vec<Listener>,
}

impl Server {
    /// Takes every address of the configuration, or none.
    pub async fn bind(config: &ControllerConfig) -> Result<Self, ServeError> {
        let protection = Protection::from_config(config)?;
        if config.listen.is_none() {
            let unusable = |source| ServeError::StateDir { path: config.state_dir.clone(), source };
            config.make_state_dir().map_err(unusable)?;
        }
        let mut listeners = Vec::new();
        for address in &config.listen_on() {
            listeners.push(Listener::bind(address, &protection).await?);
        }
        Ok(Self { listeners })
    }

    /// What a client gives as the URL of each address.
    pub fn urls(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::url).collect()
    }

    /// Answers until `shutdown` is done. Long polls and event streams then end at once, other
    /// requests under way are answered.
    pub async fn run(self, app: App, shutdown: impl Future<Output = ()>) {
        let (ending, signal) = Shutdown::channel();
        let router = http::router(app, signal.clone());
        let mut loops = JoinSet::new();
        for listener in self.listeners {
            tracing::info!(url = listener.url(), "listening");
            loops.spawn(accept_connections(listener, router.clone(), signal.clone()));
        }
        shutdown.await;
        drop(ending);
        let ended = tokio::time::timeout(GRACE, async { while loops.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(grace_s = GRACE.as_secs(), "connections were cut: their requests took too long");
        }
    }
}

/// Tells those who wait that the server is ending: it is as soon as the sender is dropped.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<()>);

impl Shutdown {
    /// A signal, given when the sender is dropped.
    pub fn channel() -> (watch::Sender<()>, Self) {
        let (sender, receiver) = watch::channel(());
        (sender, Self(receiver))
    }

    /// Done when the server is ending.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        while receiver.changed().await.is_ok() {}
    }
}

async fn accept_connections(listener: Listener, router: Router, shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < MOST_CONNECTIONS;
        tokio::select! {
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok(accepted) => {
                    connections.spawn(serve_connection(accepted, router.clone(), shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(url = listener.url(), error = &error as &dyn std::error::Error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Nobody new is taken in while those who are here are served to the end.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(accepted: Accepted, router: Router, shutdown: Shutdown) {
    let spoke = tokio::select! {
        spoke = tokio::time::timeout(SILENCE_TIMEOUT, accepted.first_byte()) => spoke,
        () = shutdown.requested() => return,
    };
    if !matches!(spoke, Ok(Ok(()))) {
        return tracing::debug!("connection was closed: it said nothing");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepted.handshake()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(
                error = &error as &dyn std::error::Error,
                "connection broke before it stood"
            );
        }
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection broke");
    }
}
