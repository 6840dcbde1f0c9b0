//! What a decision is based on: the configuration, the keys that answer now, and the route's metadata.

use crate::config::{Config, Use};
use crate::digest::Digest;
use crate::key::{KeyId, KeyRef};
use crate::rule::Access;
use crate::table::KeyTable;

/// Everything that [`decide`](crate::decide::decide) looks at besides the request and the time.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The filter's configuration, compiled.
    pub config: &'a Config,
    /// The keys that answer now.
    pub keys: Keys<'a>,
    /// What the route's metadata asks for, where the configuration allows it to.
    pub route: RouteMetadata<'a>,
}

/// The keys that answer now. Having none is a value like any other: it denies.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// One complete table.
    Table(&'a KeyTable),
    /// The fetched table, then the inline keys whose id and digest it does not have.
    FetchedThenInline {
        /// The keys of the admin service.
        fetched: &'a KeyTable,
        /// The keys of `manifest.keys`, with `use: always`.
        inline: &'a KeyTable,
    },
    /// There is no usable fetched manifest. The inline keys still work (`use: always`); nothing is known of other keys.
    InlineOnly {
        /// The keys of `manifest.keys`.
        inline: &'a KeyTable,
        /// Why there is no usable fetched manifest.
        why: Unavailable,
    },
    /// The fetched manifest is too old. The inline keys work, but those whose id has the form that the admin service gives
    /// are copies of its keys: they answer only as the last fetched manifest says. Otherwise a key that was deleted or
    /// regenerated would come back with the first outage.
    InlineAfterFetched {
        /// The keys of `manifest.keys`.
        inline: &'a KeyTable,
        /// The last fetched manifest.
        last: &'a KeyTable,
        /// Why the last one may not be used. `None` means that other keys count as unknown (`use: fallback`).
        why: Option<Unavailable>,
    },
    /// There is no usable manifest at all.
    Unavailable(Unavailable),
}

/// Why there is no usable manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// No manifest has been loaded completely yet.
    NotYetLoaded,
    /// The last contact with the admin service is longer ago than `max_staleness`.
    Stale,
}

/// The answer to a look-up by digest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lookup<'a> {
    Found(KeyRef<'a>),
    Unknown,
    Unavailable(Unavailable),
}

impl<'a> Keys<'a> {
    /// Chooses the keys that answer. This is the only place that says which keys do.
    ///
    /// `fetched` is the table of the admin service, or why it may not be used; `None` means that the configuration
    /// names no admin service. `last` is the last complete table of the admin service, however old it is.
    ///
    /// | fetched | no inline keys | `use: always` | `use: fallback` |
    /// | --- | --- | --- | --- |
    /// | a table | fetched | fetched, then inline | fetched |
    /// | not usable | none | inline; others are unknowable | inline |
    /// | not usable, but there was one | none | inline, copies as `last` says; others are unknowable | inline, copies as `last` says |
    /// | no admin service | none | inline | inline |
    pub fn choose(
        config: &'a Config,
        fetched: Option<Result<&'a KeyTable, Unavailable>>,
        last: Option<&'a KeyTable>,
    ) -> Self {
        let inline = config.manifest.as_ref().map(|manifest| (&*manifest.keys, manifest.when));
        if let (Some(Err(why)), Some((inline, when)), Some(last)) = (fetched, inline, last) {
            return Self::InlineAfterFetched { inline, last, why: (when == Use::Always).then_some(why) };
        }
        match (fetched, inline) {
            (Some(Ok(fetched)), Some((inline, Use::Always))) => Self::FetchedThenInline { fetched, inline },
            (Some(Ok(fetched)), _) => Self::Table(fetched),
            (Some(Err(why)), Some((inline, Use::Always))) => Self::InlineOnly { inline, why },
            (Some(Err(_)), Some((inline, Use::Fallback))) | (None, Some((inline, _))) => Self::Table(inline),
            (Some(Err(why)), None) => Self::Unavailable(why),
            // Without inline keys and without an admin service every route that can be reached is public.
            (None, None) => Self::Unavailable(Unavailable::NotYetLoaded),
        }
    }

    #[inline]
    pub(crate) fn find(self, digest: &Digest) -> Lookup<'a> {
        let found = |key: Option<KeyRef<'a>>| key.map_or(Lookup::Unknown, Lookup::Found);
        match self {
            Self::Table(table) => found(table.get(digest)),
            Self::FetchedThenInline { fetched, inline } => found(fetched.get(digest).or_else(|| {
                // A fetched key replaces the inline key with its id, also when it was regenerated. An inline key whose id
                // has the service's form is a copy of one of its keys: where the service has none, it was deleted.
                let is_own = |key: &KeyRef<'_>| match key.id {
                    KeyId::Packed(_) => false,
                    KeyId::Text(id) => !fetched.contains_id(id),
                };
                inline.get(digest).filter(is_own)
            })),
            Self::InlineAfterFetched { inline, last, why } => {
                let key = inline.get(digest).and_then(|key| match key.id {
                    KeyId::Packed(_) => last.get(digest).filter(|held| held.id == key.id),
                    KeyId::Text(_) => Some(key),
                });
                key.map_or(why.map_or(Lookup::Unknown, Lookup::Unavailable), Lookup::Found)
            }
            Self::InlineOnly { inline, why } => inline.get(digest).map_or(Lookup::Unavailable(why), Lookup::Found),
            Self::Unavailable(why) => Lookup::Unavailable(why),
        }
    }
}

/// What `filter_metadata.keyward` of the route says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteMetadata<'a> {
    /// The route says nothing to Keyward: the rules decide.
    #[default]
    Absent,
    /// This takes the place of the rules, except that a deny rule always wins.
    Access(&'a Access),
    /// The metadata cannot be understood: every request is denied.
    Invalid,
}

/// What [`route_metadata::parse`](crate::config::route_metadata::parse) read.
impl<'a, E> From<&'a Result<Option<Access>, E>> for RouteMetadata<'a> {
    fn from(read: &'a Result<Option<Access>, E>) -> Self {
        match read {
            Ok(Some(access)) => Self::Access(access),
            Ok(None) => Self::Absent,
            Err(_) => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell of the table at [`Keys::choose`].
    #[test]
    fn the_keys_that_answer_are_the_documented_ones() {
        let fetched = KeyTable::new();
        let config =
            |inline: &str| Config::parse(format!(r#"{{"admin":{{"cluster":"c"}}{inline}}}"#).as_bytes()).unwrap();
        let none = config("");
        let always = config(r#","manifest":{"use":"always","keys":[]}"#);
        let fallback = config(r#","manifest":{"use":"fallback","keys":[]}"#);
        let is = |config: &Config, keys: Keys<'_>| {
            let own = |table: &KeyTable| config.manifest.as_ref().is_some_and(|own| std::ptr::eq(table, &*own.keys));
            match keys {
                Keys::Table(table) if own(table) => "inline",
                Keys::Table(_) => "fetched",
                Keys::FetchedThenInline { inline, .. } if own(inline) => "fetched, then inline",
                Keys::InlineOnly { inline, why: Unavailable::Stale } if own(inline) => "inline only",
                Keys::Unavailable(Unavailable::Stale) => "stale",
                Keys::Unavailable(Unavailable::NotYetLoaded) => "none",
                _ => "another table",
            }
        };
        let cell = |config: &Config, fetched| is(config, Keys::choose(config, fetched, None)).to_owned();
        let row = |fetched: Option<Result<_, _>>| [&none, &always, &fallback].map(|config| cell(config, fetched));
        assert_eq!(row(Some(Ok(&fetched))), ["fetched", "fetched, then inline", "fetched"]);
        assert_eq!(row(Some(Err(Unavailable::Stale))), ["stale", "inline only", "inline"]);
        assert_eq!(row(None), ["none", "inline", "inline"]);
    }
}
