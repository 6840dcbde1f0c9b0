//! Each behaviour of the store once, on SQLite in memory, SQLite on disk and a real PostgreSQL.

#[path = "store/audit.rs"]
mod audit;
#[path = "store/cases.rs"]
mod cases;
#[path = "store/concurrency.rs"]
mod concurrency;
#[path = "store/days.rs"]
mod days;
#[path = "store/earlier.rs"]
mod earlier;
#[path = "store/lists.rs"]
mod lists;

use keyward_admin::store::Store;
use keyward_testbed::postgres::Postgres;
use keyward_testbed::workspace;
use sqlx::Connection as _;
use std::sync::Arc;

/// A database that a case runs on, kept until the case is over.
pub(crate) struct Place {
    pub(crate) url: String,
    server: Option<Postgres>,
    folder: Option<tempfile::TempDir>,
}

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    File,
    Postgres,
}

impl Place {
    /// A new, empty database; none where it cannot be had here.
    fn new(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Memory => Some(Self { url: "sqlite::memory:".to_owned(), server: None, folder: None }),
            Kind::File => {
                let folder = workspace::scratch("store");
                let url = format!("sqlite://{}", folder.path().join("keyward.db").display());
                Some(Self { url, server: None, folder: Some(folder) })
            }
            Kind::Postgres => {
                let server = Postgres::start()?;
                Some(Self { url: server.database(), server: Some(server), folder: None })
            }
        }
    }

    /// Returns the URL of another database, which is new and empty. SQLite has one in a file alone.
    pub(crate) fn another(&self) -> String {
        match (&self.server, &self.folder) {
            (Some(server), _) => server.database(),
            (None, Some(folder)) => {
                let name = format!("{}.db", std::fs::read_dir(folder.path()).unwrap().count());
                format!("sqlite://{}", folder.path().join(name).display())
            }
            (None, None) => panic!("a database in memory has no URL"),
        }
    }

    /// Opens it.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.expect("the store opens")
    }

    /// Runs statements without the store.
    pub(crate) async fn execute(&self, statements: &[&'static str]) {
        if self.url.starts_with("sqlite") {
            let mut database = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            for sql in statements {
                sqlx::query(*sql).execute(&mut database).await.unwrap();
            }
            database.close().await.unwrap();
        } else {
            let mut database = sqlx::PgConnection::connect(&self.url).await.unwrap();
            for sql in statements {
                sqlx::query(*sql).execute(&mut database).await.unwrap();
            }
            database.close().await.unwrap();
        }
    }
}

macro_rules! on_every_store {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::run(super::Kind::Memory, super::$module::$case).await; }
        )* }
        mod file { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::run(super::Kind::File, super::$module::$case).await; }
        )* }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::run(super::Kind::Postgres, super::$module::$case).await; }
        )* }
    };
}

async fn run<F: Future<Output = ()>>(kind: Kind, case: impl FnOnce(Arc<Place>) -> F) {
    if let Some(place) = Place::new(kind) {
        case(Arc::new(place)).await;
    }
}

on_every_store!(
    cases::a_new_store_is_empty_and_keeps_its_identity,
    cases::a_key_is_found_as_it_was_made,
    cases::a_taken_name_is_refused_and_nothing_is_written,
    cases::an_edit_takes_a_revision_and_no_edit_takes_none,
    cases::a_condition_that_does_not_hold_changes_nothing,
    cases::regenerating_replaces_the_digest_in_one_revision,
    cases::an_expired_key_can_be_regenerated,
    cases::a_deleted_key_leaves_a_tombstone_and_frees_its_name,
    cases::pages_lead_through_all_changes,
    cases::tombstones_up_to_base_are_left_out,
    cases::compaction_refuses_only_who_would_miss_a_delete,
    cases::who_is_ahead_is_told,
    cases::expired_keys_are_purged_with_tombstones,
    cases::the_checksum_is_that_of_the_live_keys,
    cases::searching_finds_names_ids_and_last_fours,
    cases::lists_are_paged_newest_first,
    cases::a_repeated_batch_of_usage_counts_once,
    cases::a_batch_of_usage_that_breaks_off_is_continued,
    cases::tokens_are_kept_and_revoked,
    audit::the_audit_log_tells_who_did_what_and_keeps_it,
    cases::sums_of_usage_stay_exact,
    cases::the_database_itself_keeps_the_audit_log,
    cases::a_new_identity_is_a_new_store_to_filters,
    cases::proxies_are_remembered,
    cases::a_state_is_named_by_its_mark,
    cases::a_list_is_confirmed_for_one_place,
    cases::an_older_list_is_complete_only_where_there_was_no_key,
    concurrency::no_reader_sees_a_revision_before_an_earlier_one,
    concurrency::one_of_many_gets_the_name,
    days::requests_are_counted_once_by_key_day_and_code,
    days::days_end_and_denials_are_no_uses,
    lists::every_filter_in_every_order_and_direction,
    lists::a_page_before_keys_that_are_gone_is_the_first_one,
    lists::an_older_database_gets_the_indexes,
    earlier::a_database_of_any_earlier_version_is_opened_with_all_that_is_in_it,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_writes_to_disk_before_it_acknowledges_whatever_its_default_is() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    server.sql("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    let store = Store::open(&url).await.expect("the store opens");
    server.sql(
        &url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'not durable'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER durable BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    store.create_key(&cases::new_key("a"), cases::BY).await.expect("the change is durable");
}
