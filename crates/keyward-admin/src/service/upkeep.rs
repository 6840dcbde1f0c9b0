//! The service's background work: it notices changes by others, saves the list of instances, and deletes expired
//! records.

use super::Service;
use super::proxies::Message;
use crate::store::keys::By;
use crate::store::{CHANGES, RECEIPTS};
use keyward_policy::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The interval at which the store is read. A change by the command line on SQLite, or one whose notification was lost,
/// is noticed within this time.
const LOOK: Duration = Duration::from_millis(500);
/// The time after which a store that refuses calls counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// The time after which a store that does not answer counts as lost. It is longer, because the store or this machine
/// may only be busy.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// The same time for a store that other replicas may change meanwhile. It is shorter, because receipts rely on no replica
/// giving contact without the store.
const SHARED_HANGS_AFTER: Duration = Duration::from_secs(4);
/// The time for which changes of instances are gathered before they are sent to the other replicas.
const SHARE: Duration = Duration::from_millis(20);
const BEAT: Duration = Duration::from_secs(1);
/// The time after which a silent connection counts as dead: each replica hears at least itself every [`BEAT`].
const DEAF_AFTER: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_millis(250);
const SAVE: Duration = Duration::from_secs(2);
const CLEAN: Duration = Duration::from_secs(600);
/// The number of keys that one transaction deletes. It is small, so that a person's change does not wait long.
const PURGE_AT_ONCE: u32 = 100;
/// The time after which the batch numbers of silent instances are forgotten.
const BATCHES_FOR: Duration = Duration::from_secs(2 * 86_400);

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Service {
    /// Starts the background work, which runs until the returned set is dropped.
    pub fn run(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).look());
        tasks.spawn(Arc::clone(self).keep_proxies());
        tasks.spawn(Arc::clone(self).clean());
        tasks.spawn(Arc::clone(self).watch_writes());
        if self.store.is_shared() {
            tasks.spawn(Arc::clone(self).listen());
            tasks.spawn(Arc::clone(self).share());
        }
        tasks
    }

    /// Ends the calls that wait, informs the other replicas, and saves the list of instances.
    pub async fn close(&self) {
        self.feed.close();
        self.proxies.close();
        // Every table that can serve is in the store already.
        let bye = [Message { bye: true, ..Message::beat(&self.replica) }.encode()];
        let _ = self.in_time(self.store.notify(RECEIPTS, &bye)).await;
    }

    /// Waits for the store until it counts as lost, because a connection that was cut without notice never answers.
    async fn in_time<T>(&self, work: impl Future<Output = crate::store::Result<T>>) -> Result<T, String> {
        match tokio::time::timeout(self.patience(), work).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("the store does not answer".to_owned()),
        }
    }

    pub(super) fn patience(&self) -> Duration {
        if self.store.is_shared() { SHARED_HANGS_AFTER } else { HANGS_AFTER }
    }

    /// Reads the newest state of the store and acts on it.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn refresh(&self) -> super::Result<()> {
        let known = self.feed.state().head;
        let begun = Instant::now();
        let head = self.store.head_after(known.point()).await?;
        if head.version < known.version || head.identity != known.identity {
            self.tokens.forget_version();
        }
        let tokens_changed = self.tokens.refresh(&head).await?;
        if self.feed.publish_read(&known, head, begun) {
            self.listen_again.notify_one();
        }
        if tokens_changed {
            self.feed.tokens_changed();
        }
        Ok(())
    }

    async fn look(self: Arc<Self>) {
        let mut ticks = every(LOOK);
        let mut last_success = Instant::now();
        let patience = self.patience();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.feed.look_is_due() => {}
            }
            let refused = match tokio::time::timeout(patience, self.refresh()).await {
                Ok(Ok(())) => {
                    last_success = Instant::now();
                    self.feed.set_reachable(true);
                    continue;
                }
                Ok(Err(_)) => last_success.elapsed() >= LOST_AFTER,
                Err(_) => true,
            };
            if refused && self.feed.state().reachable {
                let seconds = last_success.elapsed().as_secs();
                tracing::error!(seconds, "the store has not answered for this long: filters are told to try again");
                self.feed.set_reachable(false);
            }
        }
    }

    /// Notices that the store cannot be written before a person needs it, and that it can be written again.
    async fn watch_writes(self: Arc<Self>) {
        let mut ticks = every(LOOK);
        loop {
            ticks.tick().await;
            self.store.try_writing().await;
        }
    }

    async fn listen(self: Arc<Self>) {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.listen_until_lost().await {
                Ok(()) => pause = Duration::from_millis(100),
                Err(error) => tracing::warn!(%error, "not told of what other replicas do: looking every {LOOK:?}"),
            }
            self.proxies.not_listening();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn listen_until_lost(&self) -> crate::store::Result<()> {
        let Some(mut listener) = self.store.listen().await? else { return Ok(()) };
        // Later changes arrive as notifications, and earlier ones are read. Both must come from the same server.
        let before = self.store.head().await?;
        let known = self.store.proxies().await?;
        match tokio::time::timeout(self.patience(), self.refresh()).await {
            Ok(Ok(())) if self.feed.state().head.lineage == before.lineage => {}
            _ => return Ok(()),
        }
        self.proxies.listening(before.revision, known);
        loop {
            let heard = tokio::select! {
                heard = tokio::time::timeout(DEAF_AFTER, listener.next()) => heard,
                () = self.listen_again.notified() => return Ok(()),
            };
            let Ok(heard) = heard else { break };
            let Some(heard) = heard? else { break };
            match heard.channel.as_str() {
                CHANGES => {
                    let refreshed = tokio::time::timeout(self.patience(), self.refresh()).await;
                    if let (Ok(Ok(())), Ok(revision)) = (refreshed, heard.payload.parse()) {
                        self.proxies.heard_change(revision);
                    }
                }
                _ => match serde_json::from_str::<Message>(&heard.payload) {
                    Ok(message) => self.proxies.hear(&self.replica, message),
                    Err(error) => tracing::warn!(%error, "a replica says something that is not understood"),
                },
            }
        }
        tracing::warn!("the connection that tells of other replicas was lost; it is opened again");
        Ok(())
    }

    async fn share(self: Arc<Self>) {
        let mut ticks = every(SHARE);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let beats = last.elapsed() >= BEAT;
            let messages = self.proxies.take_messages(&self.replica, beats);
            if messages.is_empty() {
                continue;
            }
            last = Instant::now();
            if let Err(error) = self.in_time(self.store.notify(RECEIPTS, &messages)).await {
                self.proxies.not_told();
                tracing::warn!(error, "the other replicas could not be told what filter instances have applied");
                tokio::time::sleep(LOOK).await;
            } else {
                self.proxies.told_others(last);
                // After the store has been read, answers are contact as of this moment.
                if beats {
                    self.feed.look();
                }
            }
        }
    }

    async fn keep_proxies(self: Arc<Self>) {
        let mut ticks = every(SWEEP);
        let mut saved = Instant::now();
        loop {
            ticks.tick().await;
            self.proxies.sweep();
            if saved.elapsed() < SAVE {
                continue;
            }
            saved = Instant::now();
            self.record_waiting().await;
            if self.proxies.missing_tables_are_gone() {
                self.confirm_when_gone().await;
            }
            let forgotten = self.proxies.take_forgotten();
            if forgotten.is_empty() {
                continue;
            }
            if let Err(error) = self.in_time(self.store.forget_proxies(&forgotten)).await {
                self.proxies.not_forgotten(forgotten);
                tracing::warn!(error, "filter instances that are gone could not be forgotten; it is tried again");
            }
        }
    }

    /// Notes that every missing table is gone, by the operator's promise.
    async fn confirm_when_gone(&self) {
        match tokio::time::timeout(self.patience(), self.confirm_proxies("keyward", None)).await {
            Ok(Ok(())) => {
                tracing::info!("every filter instance that was missing in the list refuses everything by now")
            }
            failed => {
                tracing::warn!(
                    ?failed,
                    "that the list of filter instances is complete could not be kept; it is tried again"
                )
            }
        }
    }

    async fn clean(self: Arc<Self>) {
        let mut ticks = every(CLEAN);
        loop {
            ticks.tick().await;
            if let Err(error) = self.clean_once().await {
                tracing::warn!(%error, "what is long over could not be deleted");
            }
        }
    }

    /// Returns a moment that has surely passed: the time of day, but no later than the saved moment plus the time that
    /// has passed since, unless the clock has been ahead for a whole day. So a clock that jumps or starts ahead deletes
    /// nothing.
    async fn plausible_now(&self) -> super::Result<Timestamp> {
        let wall = self.clock().now();
        let kept = self.store.plausible_at().await?.map_or(wall, Timestamp::from_unix_ms);
        let mut sense = self.sense_of_time.lock().clone();
        let (instant, plausible) = (Instant::now(), sense.plausible(kept, wall, Instant::now()));
        if plausible < wall && !sense.warned {
            sense.warned = true;
            tracing::warn!(clock = %wall, %plausible, "the clock is ahead of what can be: nothing is purged by it until this process has seen a day pass");
        }
        sense.last = Some((instant, plausible));
        *self.sense_of_time.lock() = sense;
        self.store.keep_plausible_at(plausible.unix_ms()).await?;
        Ok(plausible)
    }

    /// Deletes keys that expired long ago, old tombstones, counts of old days, and the batch numbers of silent
    /// instances.
    ///
    /// # Errors
    /// Returns an error when the store cannot be written.
    pub async fn clean_once(&self) -> super::Result<()> {
        let now = self.plausible_now().await?;
        let ago = |time: Duration| {
            Timestamp::from_unix_ms(now.unix_ms().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
        };
        let by = By { actor: "keyward", at: self.clock().now() };
        loop {
            let (purged, head) = self.store.purge_expired(ago(self.settings.purge_after), PURGE_AT_ONCE, by).await?;
            if let Some(head) = head {
                tracing::info!(purged = purged.len(), "keys that expired long ago were deleted");
                self.feed.publish(head);
            }
            if purged.len() < PURGE_AT_ONCE as usize {
                break;
            }
        }
        if let Some(head) = self.store.compact(ago(self.settings.tombstones_for)).await? {
            self.feed.publish(head);
        }
        self.store.forget_usage_days(now).await?;
        Ok(self.store.forget_batches(ago(BATCHES_FOR)).await?)
    }
}
