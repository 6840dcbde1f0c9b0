//! Databases of earlier versions: whatever step of the schema one is at, this version opens it and has the keys, the tokens
//! and the identity that were in it.

use super::Place;
use super::cases::{BY, NOW, days, digest, new_key};
use keyward_admin::lifetime::Lifetime;
use keyward_admin::store::audit::AuditFilter;
use keyward_admin::store::keys::KeyRecord;
use keyward_admin::store::manifest::KeyChange;
use keyward_admin::store::tokens::{Role, TokenRecord};
use keyward_admin::store::{Error, Store};
use keyward_admin::token_scope::TokenScope;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::digest::Digest;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _};
use std::path::Path;
use std::sync::Arc;

const IDENTITY: &str = "st_0123456789abcdef0123456789abcdef";

/// The first 12 hex digits of the SHA-384 digest of each step, on SQLite and on PostgreSQL. A database keeps the digests of the
/// steps that it has taken, and the service refuses a database that has taken others: a step that was released never changes.
const RELEASED: [[&str; 9]; 2] = [
    [
        "d9e8401b3ad7",
        "7cf76a7f5851",
        "a17e8ae8a2a3",
        "6168c5b19c4e",
        "b5f3a916bf1f",
        "e851810dfdf1",
        "a82794ee7347",
        "7096a0a5b7b3",
        "841aa7d1d0dc",
    ],
    [
        "a3d1b3f8b1b7",
        "e0e8429b46c8",
        "c3a9cd49667c",
        "1a359d014948",
        "8c2b9a25b3f2",
        "4fc1bbab22f1",
        "641da49b6ed7",
        "3c2cb236a7ee",
        "7f634baf4d73",
    ],
];

/// What an earlier version left in its database.
struct Contents {
    keys: Vec<KeyRecord>,
    tokens: Vec<TokenRecord>,
    checksum: Checksum,
}

impl Contents {
    /// Returns two keys, of which the second one is disabled and never expires, and a token of each role.
    fn new() -> Self {
        let key = |seq: i64, id: &str, name: &str, revision: u64| {
            let secret = digest();
            KeyRecord {
                seq,
                id: id.to_owned(),
                name: name.to_owned(),
                digest: secret.digest,
                prefix: secret.prefix,
                last_four: secret.last_four,
                permissions: vec!["records:read".to_owned(), "files:read".to_owned()],
                created_at: NOW,
                regenerated_at: None,
                expires_in: Lifetime::Month,
                expires_at: Some(days(30)),
                disabled: false,
                revision,
                last_used_at: None,
            }
        };
        let token = |id: &str, name: &str, role: Role| TokenRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            role,
            scope: TokenScope::default(),
            digest: Digest::of_key(name.as_bytes()),
            created_at: NOW,
            expires_at: None,
        };
        let keys = vec![
            KeyRecord { last_used_at: Some(days(1)), ..key(1, "key_aaaaaaaaaaaaaaaa", "CI Bot – ключ", 1) },
            KeyRecord {
                regenerated_at: Some(days(2)),
                expires_in: Lifetime::Never,
                expires_at: None,
                disabled: true,
                ..key(2, "key_bbbbbbbbbbbbbbbb", "o'Brien", 4)
            },
        ];
        let mut checksum = Checksum::default();
        for key in &keys {
            checksum.add(contribution(&key.wire()));
        }
        let tokens = vec![
            token("tok_aaaaaaaaaaaaaaaa", "admin", Role::Admin),
            token("tok_bbbbbbbbbbbbbbbb", "proxies", Role::Edge),
        ];
        Self { keys, tokens, checksum }
    }

    /// Returns the statements that the first version would have written it with.
    fn statements(&self, is_postgres: bool) -> Vec<String> {
        let bytes = |digest: &Digest| {
            let hex = digest.to_hex();
            if is_postgres { format!("decode('{hex}', 'hex')") } else { format!("x'{hex}'") }
        };
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let time = |at: Option<keyward_policy::timestamp::Timestamp>| {
            at.map_or("NULL".to_owned(), |at| at.unix_ms().to_string())
        };
        let now = NOW.unix_ms();
        let mut statements = vec![
            format!("INSERT INTO store VALUES (1, '{IDENTITY}', 4, 2, {}, 0, 7)", self.checksum.bits().cast_signed()),
            format!("INSERT INTO tombstones VALUES (3, 'key_cccccccccccccccc', {now})"),
            format!("INSERT INTO key_usage VALUES ('key_aaaaaaaaaaaaaaaa', '', 5, {})", days(1).unix_ms()),
            format!(
                "INSERT INTO audit (at, actor, action, subject_id, subject_name, revision, detail) \
                 VALUES ({now}, 'alice', 'key.created', 'key_aaaaaaaaaaaaaaaa', 'CI Bot – ключ', 1, '{{}}')"
            ),
            format!("INSERT INTO proxies VALUES ('node', 'vm', '0.1.0', 60000, 4, 1, {now})"),
        ];
        for key in &self.keys {
            let (more, values) = if is_postgres { (", search, folded", ", '', ''") } else { ("", "") };
            statements.push(format!(
                "INSERT INTO keys (id, name, sha256, prefix, last_four, permissions, created_at, regenerated_at, \
                 expires_in, expires_at, disabled, revision{more}) \
                 VALUES ({}, {}, {}, {}, {}, {}, {now}, {}, {}, {}, {}, {}{values})",
                text(&key.id),
                text(&key.name),
                bytes(&key.digest),
                text(&key.prefix),
                text(&key.last_four),
                text(&key.permissions.join(",")),
                time(key.regenerated_at),
                text(key.expires_in.as_str()),
                time(key.expires_at),
                i64::from(key.disabled),
                key.revision,
            ));
        }
        let revoked = TokenRecord { id: "tok_gone".into(), name: "gone".into(), ..self.tokens[1].clone() };
        let revoked = TokenRecord { digest: Digest::of_key(b"gone"), ..revoked };
        for (token, revoked_at) in self.tokens.iter().map(|token| (token, None)).chain([(&revoked, Some(NOW))]) {
            statements.push(format!(
                "INSERT INTO tokens (id, name, role, sha256, created_at, revoked_at) VALUES ({}, {}, '{}', {}, {now}, {})",
                text(&token.id),
                text(&token.name),
                token.role,
                bytes(&token.digest),
                time(revoked_at),
            ));
        }
        statements
    }

    /// Holds what an opened store says to it.
    async fn compare(&self, store: &Store, step: i64) {
        let head = store.head().await.unwrap();
        let found = (head.identity.as_str(), head.revision, head.live_count, head.checksum, head.compacted);
        assert_eq!(found, (IDENTITY, 4, 2, self.checksum, 0), "step {step}");
        for key in &self.keys {
            assert_eq!(store.key(&key.id).await.unwrap(), *key, "step {step}");
        }
        let changes = store.changes(1, 1, None, 10).await.unwrap().changes;
        assert_eq!(changes.iter().map(KeyChange::revision).collect::<Vec<_>>(), [3, 4], "step {step}");
        assert_eq!(store.tokens().await.unwrap(), self.tokens, "step {step}");
        assert!(store.had_token_named("gone").await.unwrap(), "step {step}");
        let audit = store.audit(&AuditFilter::default(), None, 10).await.unwrap();
        assert_eq!((audit.len(), audit[0].actor.as_str(), audit[0].revision), (1, "alice", Some(1)), "step {step}");
        assert_eq!(store.proxies().await.unwrap().len(), 1, "step {step}");
        // It goes on from there, and names are compared as those of new keys are.
        assert!(matches!(store.create_key(&new_key("ci bot – ключ"), BY).await, Err(Error::NameTaken)), "step {step}");
        let (made, head) = store.create_key(&new_key("next"), BY).await.unwrap();
        assert_eq!((made.revision, head.live_count), (5, 3), "step {step}");
        assert!(store.delete_key(&self.keys[0].id, None, BY).await.unwrap().1.checksum != self.checksum);
    }
}

pub(crate) async fn a_database_of_any_earlier_version_is_opened_with_all_that_is_in_it(place: Arc<Place>) {
    if place.url.contains(":memory:") {
        return;
    }
    let is_postgres = !place.url.starts_with("sqlite");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let steps = Migrator::new(folder.join(if is_postgres { "postgres" } else { "sqlite" })).await.unwrap();
    let digests = steps.iter().map(|step| step.checksum.iter().take(6).map(|byte| format!("{byte:02x}")).collect());
    let digests: Vec<String> = digests.collect();
    let released = RELEASED[usize::from(is_postgres)];
    assert_eq!(digests[..released.len()], released, "a step that was released is another one now");
    for step in steps.iter().map(|step| step.version) {
        let url = place.another();
        let contents = Contents::new();
        let statements = contents.statements(is_postgres);
        if is_postgres {
            let mut database = sqlx::PgConnection::connect(&url).await.unwrap();
            steps.run_to(1, &mut database).await.unwrap();
            for sql in statements {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
            }
            steps.run_to(step, &mut database).await.unwrap();
            database.close().await.unwrap();
        } else {
            let mut database = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
            steps.run_to(1, &mut database).await.unwrap();
            for sql in statements {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
            }
            steps.run_to(step, &mut database).await.unwrap();
            database.close().await.unwrap();
        }
        contents.compare(&Store::open(&url).await.unwrap(), step).await;
    }
}
