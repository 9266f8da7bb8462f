//! The typed client of the REST API: one method per endpoint, over TCP, TLS or a Unix socket.
//!
//! It must never put the token into an error, a log line or `Debug` output.

mod dns;
mod event_stream;
mod floating_ip;
mod security_group;
mod vpn;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use trestle_core::spec::SpecUpdate;
use uuid::Uuid;

pub use event_stream::EventStream;

use crate::agent::{Report, SpecQuery};
use crate::{
    ApiError, AssociateRequest, AttachRequest, Attached, ErrorBody, Event, EventFilter, ExplainQuery,
    Explanation, FixedIp, FixedIpFilter, GatewayRequest, HistoryFilter, Holding, Host, HostFilter, HostPatch,
    Instance, InstanceFilter, InterfacePatch, MoveRequest, Network, NetworkFilter, NetworkPatch,
    NetworksCreated, NewHost, NewInstance, NewInterface, NewNetwork, NewProject, NewToken, Page, PageQuery,
    Project, ProjectPatch, ReserveRequest, Token, TokenCreated,
};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, on top of what the request itself asks to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be silent: longer than the longest long poll (60 s), and than several
/// keep-alive comments of the event stream.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// The header of an answer that names the hosts which have not confirmed the change.
pub const UNCONFIRMED: &str = "trestle-unconfirmed";

/// Where the controller is and who asks.
#[derive(Clone, Default)]
pub struct ClientConfig {
    /// `http://host:port`, `https://host:port` or `unix:/path/to/socket`.
    pub url: String,
    /// The bearer token; without one only `/healthz` and the like answer.
    pub token: Option<String>,
    /// With `https`, the only certificates to trust, a PEM file; the system's if absent.
    pub ca_cert: Option<PathBuf>,
}

/// A controller, asked with one token. Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// As the user wrote it, for errors.
    url: String,
    unconfirmed: Arc<Mutex<BTreeSet<String>>>,
}

/// Why there is no answer, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller refused.
    #[error("{error}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// What it said.
        error: ApiError,
    },
    /// No connection, or it broke, or no answer in time.
    #[error("cannot reach the controller at {url}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// Somebody answered, but not as Trestle does.
    #[error("{url} does not answer like a Trestle controller (HTTP status {status})")]
    Unexpected {
        /// Where it was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What in the body was not understood.
        source: serde_json::Error,
    },
    /// The URL has another form.
    #[error(
        "`{url}` is not the URL of a controller: write http://host:port, https://host:port or unix:/path"
    )]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// The token cannot be sent in a header.
    #[error("the token has characters that no token has, such as a line break")]
    BadToken,
    /// The CA file cannot be read.
    #[error("cannot read the CA certificates in {}", path.display())]
    CaUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA file is not PEM, or empty.
    #[error("no PEM certificate in {}", path.display())]
    CaEmpty {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("cannot set up a client for {url}")]
    Setup {
        /// Where the controller should be.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
}

impl ClientError {
    /// The stable code, where the controller gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { error, .. } => Some(&error.code),
            _ => None,
        }
    }
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// Installs ring as the process's TLS provider if there is none: reqwest panics without.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("trestle/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .default_headers(headers(config.token.as_deref())?);
        let bad_url = || ClientError::BadUrl { url: config.url.clone() };
        let (builder, base) = match config.url.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => {
                // The host is never looked up; HTTP wants one all the same.
                let base = Url::parse("http://localhost/").map_err(|_| bad_url())?;
                (builder.unix_socket(path).tls_certs_only([]), base)
            }
            Some(_) => return Err(bad_url()),
            None => {
                let base = Url::parse(&config.url).map_err(|_| bad_url())?;
                match (base.scheme(), &config.ca_cert) {
                    ("https", Some(path)) => (builder.tls_certs_only(certificates(path)?), base),
                    ("https", None) => (builder, base),
                    // Plain HTTP must not cost a read of all of the system's certificates.
                    ("http", _) => (builder.tls_certs_only([]), base),
                    _ => return Err(bad_url()),
                }
            }
        };
        let http =
            builder.build().map_err(|source| ClientError::Setup { url: config.url.clone(), source })?;
        Ok(Self { http, base, url: config.url, unconfirmed: Arc::default() })
    }

    /// The hosts that had not confirmed what was asked for by this client or its clones, since this was
    /// asked last; of many the rest as `7 more`.
    pub fn take_unconfirmed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a project.
    pub async fn create_project(&self, project: &NewProject) -> Result<Project, ClientError> {
        self.send(self.post(&["v1", "projects"]).json(project)).await
    }

    /// Lists projects.
    pub async fn list_projects(&self, page: &PageQuery) -> Result<Page<Project>, ClientError> {
        self.send(self.get(&["v1", "projects"]).query(page)).await
    }

    /// Shows a project, by name or id.
    pub async fn project(&self, project: &str) -> Result<Project, ClientError> {
        self.send(self.get(&["v1", "projects", project])).await
    }

    /// Changes a project's quota, or what its new instances get.
    pub async fn patch_project(&self, project: &str, patch: &ProjectPatch) -> Result<Project, ClientError> {
        self.send(self.request(Method::PATCH, &["v1", "projects", project]).json(patch)).await
    }

    /// Deletes a project that has nothing any more.
    pub async fn delete_project(&self, project: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "projects", project])).await
    }

    /// Makes a host known.
    pub async fn create_host(&self, host: &NewHost) -> Result<Host, ClientError> {
        self.send(self.post(&["v1", "hosts"]).json(host)).await
    }

    /// Lists hosts.
    pub async fn list_hosts(&self, filter: &HostFilter, page: &PageQuery) -> Result<Page<Host>, ClientError> {
        self.send(self.get(&["v1", "hosts"]).query(filter).query(page)).await
    }

    /// Shows a host, by name or id.
    pub async fn host(&self, host: &str) -> Result<Host, ClientError> {
        self.send(self.get(&["v1", "hosts", host])).await
    }

    /// Changes a host.
    pub async fn patch_host(&self, host: &str, patch: &HostPatch) -> Result<Host, ClientError> {
        self.send(self.request(Method::PATCH, &["v1", "hosts", host]).json(patch)).await
    }

    /// Forgets a host that has no instance plugged in any more.
    pub async fn delete_host(&self, host: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "hosts", host])).await
    }

    /// What a host must have; waits as long as the query says and gives `None` if nothing changed.
    pub async fn spec(&self, host: &str, query: &SpecQuery) -> Result<Option<SpecUpdate>, ClientError> {
        let wait = Duration::from_secs(query.wait.unwrap_or(0).into());
        let request = self.get(&["v1", "hosts", host, "spec"]).query(query).timeout(wait + ANSWER_TIMEOUT);
        let response = self.answer(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.decode(response).await.map(Some)
    }

    /// Says what a host's agent saw.
    pub async fn report(&self, host: &str, report: &Report) -> Result<(), ClientError> {
        self.send_for_nothing(self.request(Method::PUT, &["v1", "hosts", host, "report"]).json(report)).await
    }

    /// Makes networks: one, or several out of one range. All of them or none.
    pub async fn create_networks(&self, network: &NewNetwork) -> Result<NetworksCreated, ClientError> {
        self.send(self.post(&["v1", "networks"]).json(network)).await
    }

    /// Lists networks.
    pub async fn list_networks(
        &self,
        filter: &NetworkFilter,
        page: &PageQuery,
    ) -> Result<Page<Network>, ClientError> {
        self.send(self.get(&["v1", "networks"]).query(filter).query(page)).await
    }

    /// Shows a network, by name or id.
    pub async fn network(&self, network: &str) -> Result<Network, ClientError> {
        self.send(self.get(&["v1", "networks", network])).await
    }

    /// Changes what guests of a network are told, or the device it leads out by.
    pub async fn patch_network(&self, network: &str, patch: &NetworkPatch) -> Result<Network, ClientError> {
        self.send(self.request(Method::PATCH, &["v1", "networks", network]).json(patch)).await
    }

    /// Deletes a network that no instance is on any more.
    pub async fn delete_network(&self, network: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "networks", network])).await
    }

    /// Keeps a range of a network's addresses from instances.
    pub async fn reserve(&self, network: &str, request: &ReserveRequest) -> Result<Network, ClientError> {
        self.send(self.post(&["v1", "networks", network, "reserve"]).json(request)).await
    }

    /// Gives a range that was kept from instances back.
    pub async fn unreserve(&self, network: &str, request: &ReserveRequest) -> Result<Network, ClientError> {
        self.send(self.post(&["v1", "networks", network, "unreserve"]).json(request)).await
    }

    /// Gives a free VLAN network to a project.
    pub async fn associate(&self, network: &str, request: &AssociateRequest) -> Result<Network, ClientError> {
        self.send(self.post(&["v1", "networks", network, "associate"]).json(request)).await
    }

    /// Takes a VLAN network that no instance is on from its project: it is free again.
    pub async fn disassociate(&self, network: &str) -> Result<Network, ClientError> {
        self.send(self.post(&["v1", "networks", network, "disassociate"])).await
    }

    /// Moves the gateway of a single-host network to another host.
    pub async fn set_gateway(&self, network: &str, request: &GatewayRequest) -> Result<Network, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "networks", network, "gateway"]).json(request)).await
    }

    /// Makes an instance.
    pub async fn create_instance(&self, instance: &NewInstance) -> Result<Instance, ClientError> {
        self.send(self.post(&["v1", "instances"]).json(instance)).await
    }

    /// Lists instances.
    pub async fn list_instances(
        &self,
        filter: &InstanceFilter,
        page: &PageQuery,
    ) -> Result<Page<Instance>, ClientError> {
        self.send(self.get(&["v1", "instances"]).query(filter).query(page)).await
    }

    /// Shows an instance, by name or id; a name that several projects use needs the project.
    pub async fn instance(&self, instance: &str, project: Option<&str>) -> Result<Instance, ClientError> {
        self.send(self.get(&["v1", "instances", instance]).query(&[("project", project)])).await
    }

    /// Deletes an instance; its addresses are reusable when this returns.
    pub async fn delete_instance(&self, instance: &str, project: Option<&str>) -> Result<(), ClientError> {
        let request = self.delete(&["v1", "instances", instance]).query(&[("project", project)]);
        self.send_for_nothing(request).await
    }

    /// Adds an interface to an instance.
    pub async fn add_interface(
        &self,
        instance: &str,
        project: Option<&str>,
        interface: &NewInterface,
    ) -> Result<Instance, ClientError> {
        let request = self.post(&["v1", "instances", instance, "interfaces"]);
        self.send(request.query(&[("project", project)]).json(interface)).await
    }

    /// Changes what an interface, by id or network, is held to.
    pub async fn patch_interface(
        &self,
        instance: &str,
        project: Option<&str>,
        interface: &str,
        patch: &InterfacePatch,
    ) -> Result<Instance, ClientError> {
        let path = ["v1", "instances", instance, "interfaces", interface];
        self.send(self.request(Method::PATCH, &path).query(&[("project", project)]).json(patch)).await
    }

    /// Takes an interface, by id, from an instance; gives the instance without it.
    pub async fn delete_interface(
        &self,
        instance: &str,
        project: Option<&str>,
        interface: &str,
    ) -> Result<Instance, ClientError> {
        let request = self.delete(&["v1", "instances", instance, "interfaces", interface]);
        self.send(request.query(&[("project", project)])).await
    }

    /// Moves an instance to another host, or does a part of that.
    pub async fn move_instance(
        &self,
        instance: &str,
        project: Option<&str>,
        request: &MoveRequest,
    ) -> Result<Instance, ClientError> {
        let path = self.post(&["v1", "instances", instance, "move"]);
        self.send(path.query(&[("project", project)]).json(request)).await
    }

    /// Plugs an interface in on a host; its agent makes the device.
    pub async fn attach(
        &self,
        instance: &str,
        project: Option<&str>,
        attach: &AttachRequest,
    ) -> Result<Attached, ClientError> {
        let request = self.post(&["v1", "instances", instance, "attach"]);
        self.send(request.query(&[("project", project)]).json(attach)).await
    }

    /// Unplugs an interface; it keeps its MAC and addresses.
    pub async fn detach(
        &self,
        instance: &str,
        project: Option<&str>,
        network: Option<&str>,
    ) -> Result<Attached, ClientError> {
        let request = self.post(&["v1", "instances", instance, "detach"]);
        self.send(request.query(&[("project", project), ("network", network)])).await
    }

    /// Lists fixed IPs that are or were in use.
    pub async fn list_fixed_ips(
        &self,
        filter: &FixedIpFilter,
        page: &PageQuery,
    ) -> Result<Page<FixedIp>, ClientError> {
        self.send(self.get(&["v1", "fixed-ips"]).query(filter).query(page)).await
    }

    /// Tells who had an address when, the newest first.
    pub async fn address_history(
        &self,
        address: &str,
        filter: &HistoryFilter,
        page: &PageQuery,
    ) -> Result<Page<Holding>, ClientError> {
        let request = self.get(&["v1", "addresses", address, "history"]);
        self.send(request.query(filter).query(page)).await
    }

    /// Tells what becomes of a packet, and why.
    pub async fn explain(&self, packet: &ExplainQuery) -> Result<Explanation, ClientError> {
        self.send(self.get(&["v1", "explain"]).query(packet)).await
    }

    /// Lists events, the oldest first.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        page: &PageQuery,
    ) -> Result<Page<Event>, ClientError> {
        self.send(self.get(&["v1", "events"]).query(filter).query(page)).await
    }

    /// Follows events as they happen: those behind the event `after`, or all there are if absent.
    /// Ends when the controller does; go on from the last event's id.
    pub async fn events_stream(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
    ) -> Result<EventStream, ClientError> {
        let request = self.request_without_deadline(Method::GET, &["v1", "events", "stream"]);
        let response = self.answer(request.query(filter).query(&[("after", after)])).await?;
        Ok(EventStream::new(response, self.url.clone()))
    }

    /// Makes a token; its secret is in this answer and nowhere else.
    pub async fn create_token(&self, token: &NewToken) -> Result<TokenCreated, ClientError> {
        self.send(self.post(&["v1", "tokens"]).json(token)).await
    }

    /// Lists tokens, without secrets.
    pub async fn list_tokens(&self, page: &PageQuery) -> Result<Page<Token>, ClientError> {
        self.send(self.get(&["v1", "tokens"]).query(page)).await
    }

    /// Deletes a token: who holds it is refused from now on.
    pub async fn delete_token(&self, id: Uuid) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "tokens", &id.to_string()])).await
    }

    /// Succeeds if the controller is there and has its database. Needs no token.
    pub async fn health(&self) -> Result<(), ClientError> {
        self.answer(self.get(&["healthz"])).await.map(drop)
    }

    fn get(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    fn post(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    fn delete(&self, path: &[&str]) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.request_without_deadline(method, path).timeout(ANSWER_TIMEOUT)
    }

    fn request_without_deadline(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Only a URL that cannot be a base, such as `mailto:`, has no segments; `new` refuses those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.answer(request).await?;
        self.decode(response).await
    }

    async fn send_for_nothing(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.answer(request).await.map(drop)
    }

    /// The response if it is a success, else what the envelope says.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| unreachable(&self.url, source))?;
        if response.status().is_success() {
            self.note_unconfirmed(&response);
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body: ErrorBody = self.decode(response).await?;
        Err(ClientError::Api { status, error: body.error })
    }

    fn note_unconfirmed(&self, response: &Response) {
        let said = response.headers().get(UNCONFIRMED).and_then(|value| value.to_str().ok());
        let hosts = said.into_iter().flat_map(|said| said.split(", ")).map(str::to_owned);
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).extend(hosts);
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|source| unreachable(&self.url, source))?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Unexpected {
            url: self.url.clone(),
            status,
            source,
        })
    }
}

/// The URL is in our own text already; reqwest's would say it again, and for a Unix socket wrongly.
fn unreachable(url: &str, source: reqwest::Error) -> ClientError {
    ClientError::Unreachable { url: url.to_owned(), source: source.without_url() }
}

fn headers(token: Option<&str>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::BadToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let pem =
        std::fs::read(path).map_err(|source| ClientError::CaUnreadable { path: path.to_owned(), source })?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ClientError::CaEmpty { path: path.to_owned() }),
    }
}
