//! Finding the controller and the token to call it with.

use std::path::{Path, PathBuf};

use trestle_api::client::{Client, ClientConfig, ClientError};
use trestle_api::{Page, PageQuery};

use crate::args::GlobalArgs;
use crate::error::{CommandError, ReadError};

const DEFAULT_STATE_DIR: &str = "/var/lib/trestle";
const DEFAULT_URL: &str = "http://127.0.0.1:7117";
/// As many as the API gives at once.
const PAGE_SIZE: u32 = 1000;
const TOKEN_VARIABLE: &str = "TRESTLE_TOKEN";
const STATE_DIR_VARIABLE: &str = "TRESTLE_STATE_DIR";

/// A client for the controller that the flags, the environment or the state folder name.
pub(crate) fn client(global: &GlobalArgs) -> anyhow::Result<Client> {
    let token = Some(token(global)?);
    Ok(Client::new(ClientConfig { url: url(global), token, ca_cert: global.ca.clone() })?)
}

/// The same controller asked without a token, which is enough for its health.
pub(crate) fn nameless_client(global: &GlobalArgs) -> anyhow::Result<Client> {
    Ok(Client::new(ClientConfig { url: url(global), token: None, ca_cert: global.ca.clone() })?)
}

/// Where the controller is taken to be.
pub(crate) fn url(global: &GlobalArgs) -> String {
    if let Some(url) = &global.url {
        return url.clone();
    }
    let socket = state_dir().join("trestle.sock");
    if socket.exists() { format!("unix:{}", socket.display()) } else { DEFAULT_URL.to_owned() }
}

/// The controller's state folder, as far as a client knows.
pub(crate) fn state_dir() -> PathBuf {
    std::env::var_os(STATE_DIR_VARIABLE).map_or_else(|| DEFAULT_STATE_DIR.into(), PathBuf::from)
}

/// What is said on the command line wins over what is in the environment.
fn token(global: &GlobalArgs) -> Result<String, CommandError> {
    if let Some(file) = &global.token_file {
        return read_token(file).map_err(CommandError::TokenFile);
    }
    if let Ok(token) = std::env::var(TOKEN_VARIABLE)
        && !token.trim().is_empty()
    {
        return Ok(token.trim().to_owned());
    }
    read_token(&state_dir().join("admin.token")).map_err(CommandError::NoToken)
}

fn read_token(path: &Path) -> Result<String, ReadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(ReadError::Empty { path: path.to_owned() }),
        token => Ok(token.to_owned()),
    }
}

/// Every page of a list as one.
pub(crate) async fn every_page<T>(
    fetch: impl AsyncFn(PageQuery) -> Result<Page<T>, ClientError>,
) -> anyhow::Result<Page<T>> {
    let mut all = Page { items: Vec::new(), next: None };
    let mut after = None;
    loop {
        let page = fetch(PageQuery { limit: Some(PAGE_SIZE), after }).await?;
        all.items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}
