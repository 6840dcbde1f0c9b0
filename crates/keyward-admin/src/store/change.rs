//! One transaction that changes the store.

use super::database::{CHANGES, Store};
use super::error::Result;
use super::head::{Head, read_head, signed};
use super::sql::{Arg, Priority, Tx};
use crate::random;
use keyward_policy::checksum::contribution;
use keyward_policy::manifest::LiveKey;
use keyward_policy::timeline::{Mark, Point};

/// An open change: it holds the store's row, so that no other writer gets in between. Dropped: nothing happened.
pub struct Change {
    pub(super) tx: Tx,
    pub(super) head: Head,
    /// The state that the change found.
    found: Point,
}

impl Store {
    /// Starts a change that a person waits for, after the one that is being made.
    pub(super) async fn change(&self) -> Result<Change> {
        self.change_as(Priority::Person).await
    }

    /// Starts a change, after the one that is being made.
    pub(super) async fn change_as(&self, priority: Priority) -> Result<Change> {
        let mut tx = self.pool.begin_write(priority).await?;
        let mut head = read_head(tx.row(self.head_sql.lock, &[]).await?.as_ref(), Point::default())?;
        let found = head.point();
        head.after = Some(found);
        Ok(Change { tx, head, found })
    }
}

impl Change {
    /// Takes the next revision.
    pub(super) fn next_revision(&mut self) -> u64 {
        self.head.revision += 1;
        self.head.revision
    }

    /// Counts a key that became live, or is now as given.
    pub(super) fn added(&mut self, key: &LiveKey<'_>) {
        self.head.live_count += 1;
        self.head.checksum.add(contribution(key));
    }

    /// Counts a key that is no longer live, or no longer as given.
    pub(super) fn removed(&mut self, key: &LiveKey<'_>) {
        self.head.live_count = self.head.live_count.saturating_sub(1);
        self.head.checksum.remove(contribution(key));
    }

    /// Writes an audit entry that is kept if and only if the change is.
    #[allow(clippy::too_many_arguments, reason = "the columns of an entry")]
    pub(super) async fn audit(
        &mut self,
        at: i64,
        actor: &str,
        action: &str,
        subject_id: &str,
        subject_name: &str,
        revision: Option<u64>,
        detail: &serde_json::Value,
    ) -> Result<()> {
        self.tx
            .execute(
                "INSERT INTO audit (at, actor, action, subject_id, subject_name, revision, detail) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    Arg::Int(at),
                    Arg::Text(actor),
                    Arg::Text(action),
                    Arg::Text(subject_id),
                    Arg::Text(subject_name),
                    Arg::OptInt(revision.map(signed)),
                    Arg::Text(&detail.to_string()),
                ],
            )
            .await?;
        Ok(())
    }

    /// Commits, tells the other replicas, and gives the state of the store now.
    pub(super) async fn commit(mut self) -> Result<Head> {
        if self.head.revision != self.found.revision {
            self.head.mark = Mark::from_bits(u64::from_le_bytes(random::bytes()));
            let sql = "INSERT INTO timeline (revision, mark) VALUES ($1, $2) ON CONFLICT (revision) DO NOTHING";
            let args = [Arg::Int(signed(self.found.revision)), Arg::Int(self.found.mark.bits().cast_signed())];
            self.tx.execute(sql, &args).await?;
        }
        let head = &self.head;
        self.tx
            .execute(
                "UPDATE store SET identity = $1, head = $2, live_count = $3, live_checksum = $4, compacted = $5, \
                 version = $6, mark = $7 WHERE one = 1",
                &[
                    Arg::Text(&head.identity),
                    Arg::Int(signed(head.revision)),
                    Arg::Int(signed(head.live_count)),
                    Arg::Int(head.checksum.bits().cast_signed()),
                    Arg::Int(signed(head.compacted)),
                    Arg::Int(signed(head.version)),
                    Arg::Int(head.mark.bits().cast_signed()),
                ],
            )
            .await?;
        if self.tx.is_postgres() {
            // Delivered when the transaction commits, and not before.
            let payload = head.revision.to_string();
            self.tx.execute("SELECT pg_notify($1, $2)", &[Arg::Text(CHANGES), Arg::Text(&payload)]).await?;
        }
        self.tx.commit().await?;
        Ok(self.head)
    }
}
