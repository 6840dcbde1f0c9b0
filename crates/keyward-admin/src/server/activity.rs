//! The requests of a connection that are being answered, so that an idle connection can be closed.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Counts the requests of one connection. Clones share the count.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    open: usize,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
}

/// A request that is being answered until the value is dropped.
pub(super) struct Answering(Activity);

impl Activity {
    /// Creates the count of a connection without requests.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { open: 0, idle_since: Instant::now() })))
    }

    /// Counts a request until the returned value is dropped.
    pub fn begin(&self) -> Answering {
        self.0.lock().open += 1;
        Answering(self.clone())
    }

    /// Returns how many requests are being answered.
    pub fn open(&self) -> usize {
        self.0.lock().open
    }

    /// Waits until there has been no request for `limit`.
    pub async fn idle_for(&self, limit: Duration) {
        loop {
            let left = {
                let state = self.0.lock();
                if state.open > 0 { limit } else { limit.saturating_sub(state.idle_since.elapsed()) }
            };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.open -= 1;
        state.idle_since = Instant::now();
    }
}

/// The body of an answer: the request is being answered until the body is sent.
pub(super) struct CountedBody {
    body: Body,
    _answering: Answering,
}

impl CountedBody {
    /// Joins the body to the request that it answers.
    pub fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
