//! What the OpenAPI document says beside its paths.

use trestle_api::ErrorBody;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::answer::error_responses;

const DESCRIPTION: &str = "Networks for virtual machines. \
    Things are named by name or id. Lists come in pages: give `next` as `after` until there is no `next`. \
    A change is kept when it is answered; connected hosts have followed then, or two seconds have passed. \
    The header `trestle-unconfirmed` of an answer names the hosts that have not, as in `host1, host2`, \
    and of many the rest by its number, as in `7 more`: what was before goes on there until their agents are back. \
    Every error has the body `ErrorBody`; its `code` is stable. \
    Fields and codes may be added; a client ignores what it does not know.";

/// The document of every route.
pub fn openapi() -> OpenApi {
    super::routes().into_openapi()
}

/// The document without any path.
pub(super) fn frame() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Trestle")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license));
    let mut schemas = vec![(ErrorBody::name().into_owned(), ErrorBody::schema())];
    ErrorBody::schemas(&mut schemas);
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .responses_from_iter(error_responses())
        .security_scheme("bearer", bearer)
        .build();
    OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [String; 0], String>("bearer", [])]))
        .build()
}
