//! What takes the place of `src/guard.rs`: nothing panics in a model, unless it has failed.

pub fn catch<R>(_: &'static str, body: impl FnOnce() -> R) -> Option<R> {
    Some(body())
}

pub fn planted(_: &'static str) {}
