//! Tokens.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use trestle_api::{NewToken, Page, PageQuery, Role, Token, TokenCreated};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, OpenError, host, project};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::token::{self, Holder, NewTokenRecord};

/// What every secret begins with, so that people and scanners know one.
const PREFIX: &str = "trestle_";

impl App {
    /// Who holds this secret.
    pub async fn authenticate(&self, secret: &str) -> Result<Caller, AppError> {
        let mut read = self.store().read().await?;
        match token::holder(&mut read, &digest(secret.as_bytes())).await? {
            Some(Holder::Admin) => Ok(Caller::Admin),
            Some(Holder::Member(project)) => Ok(Caller::Member(project)),
            Some(Holder::Agent(host)) => Ok(Caller::Agent(host)),
            None => Err(AppError::unauthorized("the token is not one of this controller's")
                .hint("`trestle token create` makes a new one")),
        }
    }

    /// Makes a token; its secret is in the answer and nowhere else. Admins only.
    pub async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<TokenCreated, AppError> {
        caller.must_be_admin("making a token")?;
        check_scope(&new)?;
        let secret = new_secret()?;
        let mut write = self.write().await?;
        let (mut project, mut host) = (None, None);
        let holder = match (new.role, new.project.as_deref(), new.host.as_deref()) {
            (Role::Member, Some(text), _) => {
                let found = project::find(write.connection(), caller, text).await?;
                project = Some(found.name);
                Holder::Member(found.id)
            }
            (Role::Agent, _, Some(text)) => {
                let found = host::find(write.connection(), caller, text).await?.host;
                host = Some(found.name);
                Holder::Agent(found.id)
            }
            _ => Holder::Admin,
        };
        let (id, created_at) = (Uuid::now_v7(), write.at());
        let hash = digest(secret.as_bytes());
        let record = NewTokenRecord { id, hash: &hash, holder, description: &new.description, created_at };
        token::insert(write.connection(), &record).await?;
        write.log(Change::new("token.created", id, format!("token {id} was made")));
        write.commit().await?;
        let token = Token { id, role: new.role, project, host, description: new.description, created_at };
        Ok(TokenCreated { token, secret })
    }

    /// The tokens, without their secrets. Admins only.
    pub async fn list_tokens(&self, caller: &Caller, page: &PageQuery) -> Result<Page<Token>, AppError> {
        caller.must_be_admin("listing tokens")?;
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let tokens = token::list(&mut read, &after, check::rows(limit)).await?;
        Ok(check::page(tokens, limit, |token| token.id.to_string()))
    }

    /// Revokes a token at once. Admins only.
    pub async fn delete_token(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        caller.must_be_admin("revoking a token")?;
        let mut write = self.write().await?;
        let found = token::find(write.connection(), &check::reference(id)).await?;
        let id = found.ok_or_else(|| AppError::not_found("token", id))?.id;
        token::delete(write.connection(), id).await?;
        write.log(Change::new("token.deleted", id, format!("token {id} was revoked")));
        write.commit().await?;
        Ok(())
    }

    /// Writes a token to `file` if no admin has one yet.
    pub(super) async fn ensure_admin_token(&self, file: &Path) -> Result<(), OpenError> {
        let failed = |source: AppError| OpenError::Load { source: Box::new(source) };
        let mut write = self.write().await.map_err(failed)?;
        let exists = token::admin_exists(write.connection()).await.map_err(|error| failed(error.into()))?;
        if exists {
            return Ok(());
        }
        let secret = new_secret().map_err(failed)?;
        // The file first: a secret in the store that is in no file would lock everyone out.
        write_secret(file, &secret)
            .map_err(|source| OpenError::AdminToken { path: file.to_owned(), source })?;
        let hash = digest(secret.as_bytes());
        let (id, created_at) = (Uuid::now_v7(), write.at());
        let description = "made at the first start";
        let record = NewTokenRecord { id, hash: &hash, holder: Holder::Admin, description, created_at };
        let stored = async {
            token::insert(write.connection(), &record).await?;
            write.log(Change::new("token.created", id, format!("the first admin token {id} was made")));
            write.commit().await
        };
        stored.await.map_err(|error| failed(error.into()))?;
        Ok(())
    }
}

/// SHA-256 in hex. A secret has 256 random bits, so that there is nothing a slow hash would add.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn check_scope(new: &NewToken) -> Result<(), AppError> {
    let mut checks = Checks::default();
    for (field, given, role) in [("project", &new.project, Role::Member), ("host", &new.host, Role::Agent)] {
        match (given.is_some(), new.role == role) {
            (false, true) => {
                checks.add(field, "required", format!("a token of this role is for one {field}"))
            }
            (true, false) => {
                checks.add(field, "not_allowed", format!("a token of this role is for no {field}"))
            }
            _ => {}
        }
    }
    checks.finish()
}

fn new_secret() -> Result<String, AppError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| AppError::defect("no random numbers").caused_by(error))?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Puts the secret into a file of its owner's alone, whole or not at all.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // The file may have been left behind by anyone, with any mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}
