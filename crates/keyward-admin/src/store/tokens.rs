//! The tokens of the admin service, kept as digests.

use super::database::Store;
use super::error::{Error, Result};
use super::folded_name::folded;
use super::head::Head;
use super::keys::By;
use super::sql::{Arg, Row};
use crate::token_scope::{NodePattern, Realm, TokenScope};
use keyward_policy::digest::Digest;
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::fmt;
use std::str::FromStr;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything that people do: keys, proxies, the audit log.
    Admin,
    /// What filters do: fetch the manifest, report usage.
    Edge,
}

impl Role {
    /// Returns the name of the role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Edge => "edge",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `admin` or `edge`")]
pub struct InvalidRole;

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidRole> {
        [Self::Admin, Self::Edge].into_iter().find(|role| role.as_str() == text).ok_or(InvalidRole)
    }
}

/// A token that is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The id of the token: `tok_` and 16 base32 characters.
    pub id: String,
    /// The name of the token, which audit entries carry. Unique among tokens that are not revoked.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The filters that it is bound to.
    pub scope: TokenScope,
    /// The SHA-256 digest of the plaintext.
    pub digest: Digest,
    /// When the token was created.
    pub created_at: Timestamp,
    /// From when on the token is refused. `None` means that it does not expire.
    pub expires_at: Option<Timestamp>,
}

fn read_token(row: &Row) -> Result<TokenRecord> {
    let corrupt = |what: &str| Error::Corrupt(format!("a token's {what}"));
    let scope = TokenScope {
        realm: row.opt_text("realm")?.map(|realm| realm.parse().map_err(|_| corrupt("realm"))).transpose()?,
        nodes: row.opt_text("nodes")?.map(|nodes| nodes.parse().map_err(|_| corrupt("nodes"))).transpose()?,
    };
    Ok(TokenRecord {
        id: row.text(0)?,
        name: row.text(1)?,
        role: row.text(2)?.parse().map_err(|_| corrupt("role"))?,
        scope,
        digest: Digest::from_bytes(row.bytes(3)?.try_into().map_err(|_| corrupt("digest"))?),
        created_at: Timestamp::from_unix_ms(row.int(4)?),
        expires_at: row.opt_int(5)?.map(Timestamp::from_unix_ms),
    })
}

impl Store {
    /// Returns the tokens that are not revoked, oldest first. Expired tokens are among them.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>> {
        let sql = "SELECT id, name, role, sha256, created_at, expires_at, realm, nodes FROM tokens \
                   WHERE revoked_at IS NULL ORDER BY created_at, id";
        self.pool.rows(sql, &[]).await?.iter().map(read_token).collect()
    }

    /// Returns whether there ever was a token of this role. Revoked and expired tokens count.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn ever_had_token(&self, role: Role) -> Result<bool> {
        let sql = "SELECT id FROM tokens WHERE role = $1 LIMIT 1";
        Ok(self.pool.row(sql, &[Arg::Text(role.as_str())]).await?.is_some())
    }

    /// Returns whether there ever was a token with this name, or one that looks like it. Revoked and expired tokens count.
    ///
    /// # Errors
    /// Returns an error when the database cannot be read.
    pub async fn had_token_named(&self, name: &str) -> Result<bool> {
        let folded_name = folded(name);
        let rows = self.pool.rows("SELECT name FROM tokens", &[]).await?;
        let names = rows.iter().map(|row| row.text(0)).collect::<sqlx::Result<Vec<String>>>()?;
        Ok(names.iter().any(|known| folded(known) == folded_name))
    }

    /// Adds a token.
    ///
    /// # Errors
    /// Returns [`Error::NameTaken`], or an error when the database cannot be written.
    pub async fn create_token(&self, token: &TokenRecord, by: By<'_>) -> Result<Head> {
        let mut change = self.change().await?;
        let taken = "SELECT id FROM tokens WHERE name = $1 AND revoked_at IS NULL";
        if change.tx.row(taken, &[Arg::Text(&token.name)]).await?.is_some() {
            return Err(Error::NameTaken);
        }
        let realm = token.scope.realm.as_ref().map(Realm::as_str);
        let nodes = token.scope.nodes.as_ref().map(NodePattern::as_str);
        let args = [
            Arg::Text(&token.id),
            Arg::Text(&token.name),
            Arg::Text(token.role.as_str()),
            Arg::Bytes(token.digest.as_bytes()),
            Arg::Int(token.created_at.unix_ms()),
            Arg::OptInt(token.expires_at.map(Timestamp::unix_ms)),
            Arg::OptText(realm),
            Arg::OptText(nodes),
        ];
        let sql = "INSERT INTO tokens (id, name, role, sha256, created_at, expires_at, realm, nodes) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        change.tx.execute(sql, &args).await?;
        change.head.version += 1;
        let mut detail =
            json!({ "role": token.role.as_str(), "expires_at": token.expires_at.map(|at| at.to_string()) });
        for (name, bound) in [("realm", realm), ("nodes", nodes)] {
            if let Some(bound) = bound {
                detail[name] = json!(bound);
            }
        }
        change.audit(by.at.unix_ms(), by.actor, "token.create", &token.id, &token.name, None, &detail).await?;
        change.commit().await
    }

    /// Revokes the token with this id or name.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], or an error when the database cannot be written.
    pub async fn revoke_token(&self, id_or_name: &str, by: By<'_>) -> Result<TokenRecord> {
        let mut change = self.change().await?;
        let sql = "SELECT id, name, role, sha256, created_at, expires_at, realm, nodes FROM tokens \
                   WHERE revoked_at IS NULL AND (id = $1 OR name = $1) ORDER BY id = $1 DESC LIMIT 1";
        let row = change.tx.row(sql, &[Arg::Text(id_or_name)]).await?;
        let token = read_token(&row.ok_or(Error::NotFound)?)?;
        let args = [Arg::Text(&token.id), Arg::Int(by.at.unix_ms())];
        change.tx.execute("UPDATE tokens SET revoked_at = $2 WHERE id = $1", &args).await?;
        change.head.version += 1;
        change.audit(by.at.unix_ms(), by.actor, "token.revoke", &token.id, &token.name, None, &json!({})).await?;
        change.commit().await?;
        Ok(token)
    }
}
