//! Tokens.

use trestle_api::{NewToken, Page, PageQuery, Token, TokenCreated};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Who holds this secret.
    pub async fn authenticate(&self, secret: &str) -> Result<Caller, AppError> {
        let _ = secret;
        todo!()
    }

    /// Makes a token; its secret is in the answer and nowhere else. Admins only.
    pub async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<TokenCreated, AppError> {
        let _ = (caller, new);
        todo!()
    }

    /// The tokens, without their secrets. Admins only.
    pub async fn list_tokens(&self, caller: &Caller, page: &PageQuery) -> Result<Page<Token>, AppError> {
        let _ = (caller, page);
        todo!()
    }

    /// Revokes a token at once. Admins only.
    pub async fn delete_token(&self, caller: &Caller, id: &str) -> Result<(), AppError> {
        let _ = (caller, id);
        todo!()
    }
}
