//! DNS: domains, and names in them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{DnsDomain, DnsRecord, DnsRecordFilter, DnsRecordRequest, NewDnsDomain, Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_dns_domain, list_dns_domains))
        .routes(routes!(delete_dns_domain))
        .routes(routes!(list_dns_records))
        .routes(routes!(put_dns_record, dns_record, delete_dns_record))
}

/// Makes a domain.
#[utoipa::path(post, path = "/v1/dns/domains", tag = "DNS", request_body = NewDnsDomain, responses(
    (status = 201, description = "the domain", body = DnsDomain), Refusals, Collisions,
))]
async fn create_dns_domain(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewDnsDomain>,
) -> Answer<Created<DnsDomain>> {
    Ok(Created(app.create_dns_domain(&caller, new).await?))
}

/// Lists the domains that the token's holder may see.
#[utoipa::path(get, path = "/v1/dns/domains", tag = "DNS", params(PageQuery), responses(
    (status = 200, description = "a page of domains", body = Page<DnsDomain>), Refusals,
))]
async fn list_dns_domains(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(page): Query<PageQuery>,
) -> Answer<Json<Page<DnsDomain>>> {
    Ok(Json(app.list_dns_domains(&caller, &page).await?))
}

/// Deletes a domain, with every name in it.
#[utoipa::path(delete, path = "/v1/dns/domains/{domain}", tag = "DNS", params(("domain" = String, Path, description = "the domain")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_dns_domain(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(domain): Path<String>,
) -> Answer<StatusCode> {
    app.delete_dns_domain(&caller, &domain).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the names in a domain.
#[utoipa::path(get, path = "/v1/dns/domains/{domain}/records", tag = "DNS",
    params(("domain" = String, Path, description = "the domain"), DnsRecordFilter, PageQuery), responses(
    (status = 200, description = "a page of names", body = Page<DnsRecord>), Refusals,
))]
async fn list_dns_records(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(domain): Path<String>,
    QueryPair(filter, page): QueryPair<DnsRecordFilter, PageQuery>,
) -> Answer<Json<Page<DnsRecord>>> {
    Ok(Json(app.list_dns_records(&caller, &domain, &filter, &page).await?))
}

/// Makes a name in a domain, or gives it these addresses in place of those that it had.
#[utoipa::path(put, path = "/v1/dns/domains/{domain}/records/{name}", tag = "DNS",
    request_body = DnsRecordRequest,
    params(("domain" = String, Path, description = "the domain"), ("name" = String, Path, description = "the name, without the domain")), responses(
    (status = 200, description = "the name", body = DnsRecord), Refusals, Collisions,
))]
async fn put_dns_record(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((domain, name)): Path<(String, String)>,
    JsonBody(request): JsonBody<DnsRecordRequest>,
) -> Answer<Json<DnsRecord>> {
    Ok(Json(app.put_dns_record(&caller, (&domain, &name), request).await?))
}

/// Shows a name in a domain.
#[utoipa::path(get, path = "/v1/dns/domains/{domain}/records/{name}", tag = "DNS",
    params(("domain" = String, Path, description = "the domain"), ("name" = String, Path, description = "the name, without the domain")), responses(
    (status = 200, description = "the name", body = DnsRecord), Refusals,
))]
async fn dns_record(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((domain, name)): Path<(String, String)>,
) -> Answer<Json<DnsRecord>> {
    Ok(Json(app.dns_record(&caller, &domain, &name).await?))
}

/// Deletes a name in a domain.
#[utoipa::path(delete, path = "/v1/dns/domains/{domain}/records/{name}", tag = "DNS",
    params(("domain" = String, Path, description = "the domain"), ("name" = String, Path, description = "the name, without the domain")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_dns_record(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((domain, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    app.delete_dns_record(&caller, &domain, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
