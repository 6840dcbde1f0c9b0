//! Why a use case was not carried out.

use crate::store;

/// One field of what was sent, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Its path in the body or its name in the query: `permissions[1]`, `wait`.
    #[schema(example = "name")]
    pub field: String,
    /// What is wrong and how to mend it.
    #[schema(example = "must have 1 to 100 characters")]
    pub message: String,
}

impl FieldError {
    /// What is wrong with which field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was sent cannot be accepted; all that is wrong with it.
    #[error("what was sent is not valid")]
    Invalid(Vec<FieldError>),
    /// No such key (or token).
    #[error("there is no such key")]
    NotFound,
    /// Another live key has the name.
    #[error("another key has that name")]
    NameTaken,
    /// The key has changed since the caller looked.
    #[error("the key is at revision {current} by now")]
    RevisionMismatch {
        /// Where it is.
        current: u64,
    },
    /// The filter belongs to another realm.
    #[error("this service keeps the keys of the realm `{ours}`")]
    WrongRealm {
        /// Ours.
        ours: String,
    },
    /// A change that the filter would need is no longer kept.
    #[error("changes up to revision {0} are no longer kept: start over at since=0")]
    Compacted(u64),
    /// The filter knows more than the store.
    #[error("the store is at revision {0}: start over at since=0")]
    Ahead(u64),
    /// As many polls wait with this token as may.
    #[error("{0} polls wait with this token, and no more may")]
    TooManyWaiters(usize),
    /// The token was revoked or ended while the poll waited.
    #[error("the token is no longer valid")]
    TokenEnded,
    /// The store cannot be reached.
    #[error("the store cannot be reached")]
    Unavailable,
    /// The store failed in a way that nobody outside can mend.
    #[error("the store failed")]
    Internal,
}

/// What a use case gives.
pub type Result<T> = std::result::Result<T, Error>;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::NotFound,
            store::Error::NameTaken => Self::NameTaken,
            store::Error::RevisionMismatch { current } => Self::RevisionMismatch { current },
            store::Error::Compacted(revision) => Self::Compacted(revision),
            store::Error::Ahead(revision) => Self::Ahead(revision),
            error if error.is_transient() => {
                tracing::error!(%error, "the store cannot be reached");
                Self::Unavailable
            }
            error => {
                tracing::error!(%error, "the store failed");
                Self::Internal
            }
        }
    }
}
