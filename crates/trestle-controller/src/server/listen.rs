//! Addresses to listen on, and the connections they give.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::{ServeError, tls};
use crate::config::ControllerConfig;

/// The owner and its group may connect. The token is needed all the same.
const SOCKET_MODE: u32 = 0o660;

/// What stands between TCP connections and those who listen in.
pub(super) enum Protection {
    /// TLS, on every TCP address.
    Tls(TlsAcceptor),
    /// The network does not reach beyond this machine; another address is refused.
    Loopback,
    /// Nothing; the operator said so.
    Nothing,
}

impl Protection {
    pub(super) fn from_config(config: &ControllerConfig) -> Result<Self, ServeError> {
        match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => tls::acceptor(cert, key).map(Self::Tls),
            (None, None) if config.insecure => Ok(Self::Nothing),
            (None, None) => Ok(Self::Loopback),
            _ => Err(ServeError::HalfTls),
        }
    }
}

/// An address that is ours.
pub(super) enum Listener {
    /// TCP, with TLS or without.
    Tcp { listener: TcpListener, address: SocketAddr, tls: Option<TlsAcceptor> },
    /// A Unix socket.
    Unix { listener: UnixListener, path: SocketPath },
}

impl Listener {
    /// Takes `host:port` or `unix:/path`.
    pub(super) async fn bind(address: &str, protection: &Protection) -> Result<Self, ServeError> {
        match address.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => bind_unix(PathBuf::from(path)).await,
            Some(_) => Err(ServeError::BadAddress { address: address.to_owned() }),
            None => bind_tcp(address, protection).await,
        }
    }

    /// What a client gives as URL.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp { address, tls: Some(_), .. } => format!("https://{address}"),
            Self::Tcp { address, tls: None, .. } => format!("http://{address}"),
            Self::Unix { path, .. } => format!("unix:{}", path.0.display()),
        }
    }

    /// The next connection. Loses none if the future is dropped before it is done.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp { listener, tls, .. } => Ok(Accepted::Tcp(listener.accept().await?.0, tls.clone())),
            Self::Unix { listener, .. } => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection, before TLS.
pub(super) enum Accepted {
    /// Over TCP, and the TLS to begin with.
    Tcp(TcpStream, Option<TlsAcceptor>),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Accepted {
    /// Done when the other side has said something, or has hung up. Who may open the local socket
    /// is not waited for.
    pub(super) async fn first_byte(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.peek(&mut [0]).await.map(drop),
            Self::Unix(_) => Ok(()),
        }
    }

    /// The bytes of HTTP.
    pub(super) async fn handshake(self) -> io::Result<Box<dyn Stream>> {
        if let Self::Tcp(stream, _) = &self {
            // An answer in two segments would wait 40 ms for the client's delayed acknowledgement.
            stream.set_nodelay(true)?;
        }
        Ok(match self {
            Self::Tcp(stream, Some(tls)) => Box::new(tls.accept(stream).await?),
            Self::Tcp(stream, None) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        })
    }
}

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A socket's path, gone from the file system when this is dropped.
pub(super) struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), error = &error as &dyn std::error::Error, "cannot remove the socket");
        }
    }
}

async fn bind_tcp(text: &str, protection: &Protection) -> Result<Listener, ServeError> {
    let address = resolve(text).await?;
    let tls = match protection {
        Protection::Tls(acceptor) => Some(acceptor.clone()),
        Protection::Loopback if !address.ip().is_loopback() => {
            return Err(ServeError::Unprotected { address: text.to_owned() });
        }
        Protection::Loopback | Protection::Nothing => None,
    };
    let bind_error = |source| bind_error(text, source);
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    // Differs from what was asked for where the port was 0.
    let address = listener.local_addr().map_err(bind_error)?;
    Ok(Listener::Tcp { listener, address, tls })
}

async fn resolve(text: &str) -> Result<SocketAddr, ServeError> {
    let bad_address = || ServeError::BadAddress { address: text.to_owned() };
    let lookup_error = |source| ServeError::Lookup { address: text.to_owned(), source };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad_address)?;
    let port: u16 = port.parse().map_err(|_| bad_address())?;
    let mut addresses = tokio::net::lookup_host((host, port)).await.map_err(lookup_error)?;
    addresses.next().ok_or_else(bad_address)
}

async fn bind_unix(path: PathBuf) -> Result<Listener, ServeError> {
    let text = format!("unix:{}", path.display());
    clear_stale_socket(&path).await?;
    let listener = UnixListener::bind(&path).map_err(|source| bind_error(&text, source))?;
    let path = SocketPath(path);
    std::fs::set_permissions(&path.0, std::fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(|source| bind_error(&text, source))?;
    Ok(Listener::Unix { listener, path })
}

/// Unlinks a socket that a killed server left behind: one on which nobody answers.
async fn clear_stale_socket(path: &Path) -> Result<(), ServeError> {
    let text = format!("unix:{}", path.display());
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(bind_error(&text, source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServeError::InTheWay { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| bind_error(&text, source))
        }
        Err(source) => Err(bind_error(&text, source)),
        Ok(_) => Err(ServeError::InUse { address: text }),
    }
}

fn bind_error(address: &str, source: io::Error) -> ServeError {
    let address = address.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { address },
        _ => ServeError::Bind { address, source },
    }
}
