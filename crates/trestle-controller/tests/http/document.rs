//! The OpenAPI document is what the routes say, and the committed file is that document.

use std::path::Path;

#[test]
fn the_committed_openapi_document_is_that_of_the_routes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api/openapi.json");
    let document = serde_json::to_string_pretty(&trestle_controller::http::openapi()).unwrap() + "\n";
    if std::env::var_os("TRESTLE_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &document).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == document,
        "docs/api/openapi.json is not what the routes say; after a look at the difference, renew it with\n\
         TRESTLE_BLESS=1 cargo test -p trestle-controller --test http"
    );
}
