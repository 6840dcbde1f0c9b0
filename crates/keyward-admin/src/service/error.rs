//! The errors of use cases.

use crate::store;
use crate::token_scope::OutOfScope;

/// A mistake in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The path of the field in the body, or its name in the query: `permissions[1]`, `wait`.
    #[schema(example = "name")]
    pub field: String,
    /// What is wrong and how to mend it.
    #[schema(example = "must have 1 to 100 characters")]
    pub message: String,
}

impl FieldError {
    /// Describes a mistake in a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a use case was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request has mistakes; these are all of them.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// There is no such key or token.
    #[error("there is no such key")]
    NotFound,
    /// Another key or token has the name.
    #[error("another key has that name")]
    NameTaken,
    /// The key is not at the revision that the caller expects.
    #[error("the key has changed: it is at revision {current}")]
    RevisionMismatch {
        /// The revision of the key's last change.
        current: u64,
    },
    /// The filter belongs to another realm.
    #[error("this service keeps the keys of the realm `{ours}`")]
    WrongRealm {
        /// The realm of this service.
        ours: String,
    },
    /// The filter is not one of those that its token is bound to.
    #[error(transparent)]
    OutOfScope(#[from] OutOfScope),
    /// The filter would need a tombstone that has been removed.
    #[error("changes up to revision {0} are no longer kept: start over at since=0")]
    Compacted(u64),
    /// The filter is at a state that did not lead to the store's.
    #[error("the store came to revision {0} another way: start over at since=0")]
    Forked(u64),
    /// The token or the node has as many tables as it may.
    #[error("this token or this node has {0} tables of keys, and no more are taken in: see `keyward proxies list`")]
    TooManyTables(usize),
    /// No instance has that name.
    #[error("there is no such instance")]
    NoSuchVm,
    /// The list of instances that is confirmed is not this one.
    #[error(
        "the list of instances is another one now, or cannot be written to the store: look at it again, then confirm it"
    )]
    ListChanged,
    /// The filter asks for changes after a revision that the store has not reached.
    #[error("the store is at revision {0}: start over at since=0")]
    Ahead(u64),
    /// The limit of waiting polls of the token is reached.
    #[error("limit of {0} waiting polls reached for this token")]
    TooManyWaiters(usize),
    /// The token was revoked or expired while the poll waited.
    #[error("the token is no longer valid")]
    TokenEnded,
    /// Other work of the same caller takes too long.
    #[error("too much is being done for this token; try again later")]
    Busy,
    /// The store cannot be reached.
    #[error("the store cannot be reached")]
    Unavailable,
    /// The store failed in a way that the caller cannot change. The log has the reason.
    #[error("the store failed")]
    Internal,
}

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::NotFound,
            store::Error::NameTaken => Self::NameTaken,
            store::Error::RevisionMismatch { current } => Self::RevisionMismatch { current },
            store::Error::Compacted(revision) => Self::Compacted(revision),
            store::Error::Forked(revision) => Self::Forked(revision),
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
