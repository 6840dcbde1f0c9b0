//! What a decision is made by: the configuration, the keys that are usable now, and what the route itself says.

use crate::config::Config;
use crate::digest::Digest;
use crate::key::KeyView;
use crate::rule::Access;
use crate::table::KeyTable;

/// Everything that [`decide`](crate::decide::decide) goes by, for one request.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The filter's configuration, compiled.
    pub config: &'a Config,
    /// The keys that are usable now.
    pub keys: Keys<'a>,
    /// What the route's metadata asks, where the configuration lets it.
    pub route: RouteMetadata<'a>,
}

/// The keys that are usable now. That there are none is a value like any other: it denies.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// One complete table.
    Table(&'a KeyTable),
    /// The fetched table, then the keys of the configuration that it does not know by id or digest.
    FetchedThenInline {
        /// From the admin service.
        fetched: &'a KeyTable,
        /// From `manifest.keys`, with `use: always`.
        inline: &'a KeyTable,
    },
    /// No usable fetched manifest; the keys of the configuration still serve (`use: always`), all others are unknowable.
    InlineOnly {
        /// From `manifest.keys`.
        inline: &'a KeyTable,
        /// Why there is no fetched one.
        why: Unavailable,
    },
    /// No usable manifest at all.
    Unavailable(Unavailable),
}

/// Why there is no usable manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// None was ever completely loaded.
    NotYetLoaded,
    /// The last contact with the admin service is longer ago than `max_staleness`.
    Stale,
}

/// A look-up's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lookup<'a> {
    Found(KeyView<'a>),
    Unknown,
    Unavailable(Unavailable),
}

impl<'a> Keys<'a> {
    pub(crate) fn find(self, digest: &Digest) -> Lookup<'a> {
        let found = |key: Option<KeyView<'a>>| key.map_or(Lookup::Unknown, Lookup::Found);
        match self {
            Self::Table(table) => found(table.get(digest)),
            Self::FetchedThenInline { fetched, inline } => found(fetched.get(digest).or_else(|| {
                // A fetched key holds against the configuration's one with its id, also when it was regenerated.
                inline.get(digest).filter(|key| !fetched.contains_id(key.id.as_str(&mut [0; 20])))
            })),
            Self::InlineOnly { inline, why } => inline.get(digest).map_or(Lookup::Unavailable(why), Lookup::Found),
            Self::Unavailable(why) => Lookup::Unavailable(why),
        }
    }
}

/// What `filter_metadata.keyward` of the route says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteMetadata<'a> {
    /// Nothing: the rules decide.
    #[default]
    Absent,
    /// This takes the rules' place, except that a deny rule always wins.
    Access(&'a Access),
    /// Something that cannot be understood: nobody may.
    Invalid,
}
