//! Reads the bodies of requests, all within one budget of memory.
//!
//! A body is read into memory before it is understood. Whoever sends many large ones slowly would otherwise decide how
//! much memory the service needs.

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of bodies are kept of callers that have proved themselves.
const MAX_TRUSTED_BYTES: usize = 64 << 20;
/// How many bytes of bodies are kept of all others.
const MAX_STRANGERS_BYTES: usize = 8 << 20;
/// How long a body may take to arrive.
const MAX_TIME: Duration = Duration::from_secs(20);
/// How long that of a stranger may take.
const MAX_STRANGERS_TIME: Duration = Duration::from_secs(5);

/// The largest body that is read of a caller who has not proved itself: a sign-in, or a form that came too late.
pub const MAX_STRANGERS_BODY_BYTES: usize = 8 << 10;

static TRUSTED: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_TRUSTED_BYTES)));
static STRANGERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_STRANGERS_BYTES)));

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A caller that has shown a valid token or session.
    Trusted,
    /// Anybody.
    Stranger,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than the limit.
    TooLarge,
    /// It took too long to arrive.
    TooSlow,
    /// It ended early.
    Broken,
    /// There is no memory for it at the moment.
    Busy,
}

/// A body in memory. Its bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct ReadBody {
    bytes: Vec<u8>,
    _reserved: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most `max_bytes`.
///
/// # Errors
/// Returns [`BodyError`].
pub async fn read(body: Body, max_bytes: usize, sender: Sender) -> Result<ReadBody, BodyError> {
    let (budget, time) = match sender {
        Sender::Trusted => (&*TRUSTED, MAX_TIME),
        Sender::Stranger => (&*STRANGERS, MAX_STRANGERS_TIME),
    };
    tokio::time::timeout(time, read_within(body, max_bytes, budget)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read_within(mut body: Body, max_bytes: usize, budget: &Arc<Semaphore>) -> Result<ReadBody, BodyError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut read = ReadBody { bytes: Vec::new(), _reserved: None };
    while let Some(frame) = body.frame().await {
        let data: Bytes = frame.map_err(|_| BodyError::Broken)?.into_data().unwrap_or_default();
        if read.bytes.len() + data.len() > max_bytes {
            return Err(BodyError::TooLarge);
        }
        let length = u32::try_from(data.len()).map_err(|_| BodyError::TooLarge)?;
        let reserved = Arc::clone(budget).try_acquire_many_owned(length).map_err(|_| BodyError::Busy)?;
        match &mut read._reserved {
            Some(all) => all.merge(reserved),
            all => *all = Some(reserved),
        }
        read.bytes.extend_from_slice(&data);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    fn body(parts: &[usize]) -> Body {
        let parts: Vec<_> = parts.iter().map(|size| Ok::<_, Infallible>(Bytes::from(vec![b'x'; *size]))).collect();
        Body::from_stream(stream::iter(parts))
    }

    #[tokio::test]
    async fn all_bodies_share_one_budget_and_give_it_back() {
        let budget = Arc::new(Semaphore::new(100));
        let first = read_within(body(&[30, 30]), 80, &budget).await.unwrap();
        assert_eq!(first.bytes().len(), 60);
        assert_eq!(read_within(body(&[30, 30]), 80, &budget).await.unwrap_err(), BodyError::Busy);
        assert_eq!(budget.available_permits(), 40, "what could not be read to its end is given back");
        drop(first);
        read_within(body(&[30, 30, 20]), 80, &budget).await.unwrap();
        assert_eq!(read_within(body(&[30, 30, 21]), 80, &budget).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(read_within(Body::from(vec![0; 81]), 80, &budget).await.unwrap_err(), BodyError::TooLarge);
        assert_eq!(budget.available_permits(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        for (sender, time) in [(Sender::Trusted, MAX_TIME), (Sender::Stranger, MAX_STRANGERS_TIME)] {
            let begun = tokio::time::Instant::now();
            assert_eq!(read(silent(), 10, sender).await.unwrap_err(), BodyError::TooSlow);
            assert_eq!(begun.elapsed(), time);
        }
    }
}
