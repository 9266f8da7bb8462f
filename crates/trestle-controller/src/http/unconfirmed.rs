//! Says beside an answer which hosts have not confirmed what was changed.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use trestle_api::client::UNCONFIRMED;

use crate::app::unconfirmed;

/// How many hosts are named: proxies take no header of any length.
const NAMED: usize = 50;

pub(super) async fn name_hosts(request: Request, next: Next) -> Response {
    let (mut response, hosts) = unconfirmed::noting(next.run(request)).await;
    if hosts.is_empty() || !response.status().is_success() {
        return response;
    }
    let more = hosts.len().saturating_sub(NAMED);
    let mut words: Vec<String> = hosts.iter().take(NAMED).map(ToString::to_string).collect();
    words.extend((more > 0).then(|| format!("{more} more")));
    if let Ok(value) = HeaderValue::try_from(words.join(", ")) {
        response.headers_mut().insert(UNCONFIRMED, value);
    }
    response
}
