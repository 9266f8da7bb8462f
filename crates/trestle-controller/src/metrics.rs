//! What Prometheus is told: how requests went, and how much there is.

use std::time::Duration;

use axum::http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::app::{Counts, VpnCounts};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds. Finest where the budget of an attach lies, up to the longest long poll.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0];

/// Counts requests for as long as the process runs.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram, Buckets>,
}

/// What requests are told apart by. Bounded in number, whatever clients send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    route: String,
    method: String,
    status: u16,
}

impl RequestLabels {
    /// `route` is the template, such as `/v1/projects/{project}`; `None` if no route matched.
    pub fn new(route: Option<String>, method: &Method, status: u16) -> Self {
        const KNOWN: [Method; 7] = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let method = if KNOWN.contains(method) { method.as_str() } else { "other" };
        Self { route: route.unwrap_or_else(|| "unknown".to_owned()), method: method.to_owned(), status }
    }
}

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("trestle");
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::new_with_constructor(Buckets);
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's head; long polls wait on purpose",
            durations.clone(),
        );
        Self { registry, requests, durations }
    }

    /// Notes one answered request.
    pub fn observe(&self, labels: RequestLabels, took: Duration) {
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
    }

    /// OpenMetrics text. `None`: the database is away, so what is counted there is left out.
    pub fn render(&self, counts: Option<&Counts>) -> String {
        let mut text = String::new();
        let rendered = encode_registry(&mut text, &gauges(counts))
            .and_then(|()| encode_registry(&mut text, &self.registry))
            .and_then(|()| encode_eof(&mut text));
        debug_assert!(rendered.is_ok(), "writing to a string does not fail");
        text
    }
}

/// Made for each scrape: a gauge that cannot be read is absent, not old.
fn gauges(counts: Option<&Counts>) -> Registry {
    let mut registry = Registry::with_prefix("trestle");
    let up = ConstGauge::new(i64::from(counts.is_some()));
    registry.register("database_up", "Whether the database answered", up);
    let Some(counts) = counts else { return registry };
    let mut gauge = |name, help, value: u64| {
        registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    };
    gauge("projects", "Projects", counts.projects);
    gauge("networks", "Networks", counts.networks);
    gauge("instances", "Instances", counts.instances);
    gauge("hosts", "Hosts", counts.hosts);
    gauge("hosts_connected", "Hosts whose agent is connected", counts.hosts_connected);
    gauge("problems", "What hosts cannot do, all together", counts.problems);
    gauge("revision", "The revision of the store", counts.revision);
    let interfaces = [
        ("detached", counts.interfaces_detached),
        ("pending", counts.interfaces_pending),
        ("ready", counts.interfaces_ready),
        ("failed", counts.interfaces_failed),
    ];
    register_by_state(&mut registry, "interfaces", "Interfaces", &interfaces);
    let fixed_ips = [("allocated", counts.fixed_ips_allocated), ("cooling", counts.fixed_ips_cooling)];
    register_by_state(&mut registry, "fixed_ips", "Fixed IPs in use", &fixed_ips);
    let floating_ips =
        [("reserved", counts.floating_ips_reserved), ("associated", counts.floating_ips_associated)];
    register_by_state(&mut registry, "floating_ips", "Floating IPs that projects have", &floating_ips);
    register_vpns(&mut registry, &counts.vpns);
    registry
}

/// One of each for every VPN, by its project.
fn register_vpns(registry: &mut Registry, vpns: &[VpnCounts]) {
    type OfVpn = fn(&VpnCounts) -> u64;
    let gauges: [(&str, &str, OfVpn); 4] = [
        ("vpn_users", "Users that a project's VPN lets in", |vpn| vpn.users),
        ("vpn_users_connected", "Users that are connected", |vpn| vpn.connected),
        ("vpn_received_bytes", "Bytes from the users that are connected", |vpn| vpn.received_bytes),
        ("vpn_sent_bytes", "Bytes to the users that are connected", |vpn| vpn.sent_bytes),
    ];
    for (name, help, value) in gauges {
        let family = Family::<[(&'static str, String); 1], Gauge>::default();
        for vpn in vpns {
            let gauge = family.get_or_create(&[("project", vpn.project.clone())]);
            gauge.set(i64::try_from(value(vpn)).unwrap_or(i64::MAX));
        }
        registry.register(name, help, family);
    }
}

fn register_by_state(registry: &mut Registry, name: &str, help: &str, states: &[(&'static str, u64)]) {
    let family = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for (state, count) in states {
        family.get_or_create(&[("state", *state)]).set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}
