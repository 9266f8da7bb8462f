//! The schema's steps, forward only: the common ones and the database's own, by number.

use sqlx::AnyPool;
use sqlx::migrate::{MigrateError, Migrator};

use crate::store::Backend;

static COMMON: Migrator = sqlx::migrate!("migrations/common");
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Brings the schema up to date; refuses one that a newer version made.
pub(crate) async fn migrate(backend: Backend, pool: &AnyPool) -> Result<(), MigrateError> {
    let own = match backend {
        Backend::Sqlite => &SQLITE,
        Backend::Postgres => &POSTGRES,
    };
    let steps = COMMON.iter().chain(own.iter()).cloned().collect();
    Migrator::with_migrations(steps).run(pool).await
}
