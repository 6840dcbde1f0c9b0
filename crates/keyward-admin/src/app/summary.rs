//! Log lines of things that a client can make happen as often as it likes: the first at once, the others as a count.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How often the count is logged.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts events of one kind, and logs their number once a minute for as long as they come.
#[derive(Debug, Clone)]
pub struct Summary {
    state: Arc<Mutex<State>>,
    log: fn(u64),
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    count: u64,
}

impl Summary {
    /// `log` gets the number of events of a minute, apart from the first one.
    pub fn new(log: fn(u64)) -> Self {
        Self { state: Arc::default(), log }
    }

    /// Notes an event. `first` logs it if none came in the last minute.
    pub fn note(&self, first: impl FnOnce()) {
        {
            let mut state = self.state.lock();
            if state.is_running {
                state.count += 1;
                return;
            }
            state.is_running = true;
        }
        first();
        let summary = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                let count = {
                    let mut state = summary.state.lock();
                    state.is_running = state.count > 0;
                    std::mem::take(&mut state.count)
                };
                if count == 0 {
                    return;
                }
                (summary.log)(count);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    static LINES: AtomicU64 = AtomicU64::new(0);
    static COUNTED: AtomicU64 = AtomicU64::new(0);

    #[tokio::test(start_paused = true)]
    async fn many_events_are_a_line_and_a_count_a_minute() {
        let summary = Summary::new(|count| {
            LINES.fetch_add(1, Ordering::Relaxed);
            COUNTED.fetch_add(count, Ordering::Relaxed);
        });
        let mut firsts = 0;
        for second in 0..150 {
            for _ in 0..1_000 {
                summary.note(|| firsts += 1);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(firsts == 1 && LINES.load(Ordering::Relaxed) <= second / 60 + 1);
        }
        tokio::time::sleep(PERIOD * 2).await;
        assert_eq!((firsts, COUNTED.load(Ordering::Relaxed)), (1, 149_999));
        summary.note(|| firsts += 1);
        assert_eq!(firsts, 2, "after a quiet minute the next one is told at once");
    }
}
