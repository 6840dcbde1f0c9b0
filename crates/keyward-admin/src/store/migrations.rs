//! The shapes of the database, compiled in and applied in order.

use super::error::{Error, Result};
use super::sql::Database;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use std::borrow::Cow;

const SQLITE: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("../../migrations/sqlite/0001_store.sql")),
    (2, "writes", include_str!("../../migrations/sqlite/0002_writes.sql")),
    (3, "lists", include_str!("../../migrations/sqlite/0003_lists.sql")),
    (4, "timeline", include_str!("../../migrations/sqlite/0004_timeline.sql")),
    (5, "token_scope", include_str!("../../migrations/sqlite/0005_token_scope.sql")),
    (6, "usage_days", include_str!("../../migrations/sqlite/0006_usage_days.sql")),
    (7, "folded_names", include_str!("../../migrations/sqlite/0007_folded_names.sql")),
    (8, "audit_by_time", include_str!("../../migrations/sqlite/0008_audit_by_time.sql")),
    (9, "denials", include_str!("../../migrations/sqlite/0009_denials.sql")),
];
const POSTGRES: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("../../migrations/postgres/0001_store.sql")),
    (2, "writes", include_str!("../../migrations/postgres/0002_writes.sql")),
    (3, "lists", include_str!("../../migrations/postgres/0003_lists.sql")),
    (4, "timeline", include_str!("../../migrations/postgres/0004_timeline.sql")),
    (5, "token_scope", include_str!("../../migrations/postgres/0005_token_scope.sql")),
    (6, "usage_days", include_str!("../../migrations/postgres/0006_usage_days.sql")),
    (7, "folded_names", include_str!("../../migrations/postgres/0007_folded_names.sql")),
    (8, "audit_by_time", include_str!("../../migrations/postgres/0008_audit_by_time.sql")),
    (9, "denials", include_str!("../../migrations/postgres/0009_denials.sql")),
];

/// Brings the schema of the database to this version's. Replicas that start together wait for each other.
///
/// # Errors
/// Returns an error when a step fails, or the database was made by a newer version.
pub(super) async fn run(database: &Database) -> Result<()> {
    match database {
        Database::Sqlite { write, .. } => migrator(SQLITE).run(write).await.map_err(newer)?,
        Database::Postgres { pool, .. } => {
            migrator(POSTGRES).run(pool).await.map_err(newer)?;
            index_trigrams(pool).await?;
        }
    }
    Ok(())
}

/// Says in words that the database was made by a newer version.
fn newer(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            let known = SQLITE.last().map_or(0, |(version, ..)| *version);
            Error::NewerSchema(format!(
                "the database was made by a newer version of Keyward: its schema is {version}, and this version knows up \
                 to {known}; run that version or a newer one"
            ))
        }
        error => error.into(),
    }
}

fn migrator(steps: &[(i64, &'static str, &'static str)]) -> Migrator {
    let step = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(step).collect())
}

/// Searching a million names wants trigrams. The extension is "trusted" and in every stock PostgreSQL, but may be
/// missing or forbidden: then the search walks the keys, newest first, which is right and slower.
async fn index_trigrams(pool: &sqlx::PgPool) -> Result<()> {
    let made = async {
        let mut tx = pool.begin().await?;
        // Two replicas that make the extension at once would collide.
        sqlx::query("SELECT pg_advisory_xact_lock(7218340562193)").execute(&mut *tx).await?;
        sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_trgm").execute(&mut *tx).await?;
        sqlx::query(
            "CREATE INDEX IF NOT EXISTS keys_by_trigram ON keys USING gin (folded gin_trgm_ops) WITH (fastupdate = off)",
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    };
    match made.await {
        Ok(()) => Ok(()),
        Err(sqlx::Error::Database(error)) => {
            tracing::warn!(%error, "no trigram index: searching many keys will be slow; let an owner of the database run CREATE EXTENSION pg_trgm and start again");
            Ok(())
        }
        Err(error) => Err(Error::Database(error)),
    }
}
