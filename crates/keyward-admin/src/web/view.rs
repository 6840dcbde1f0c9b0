//! Keys, permissions and times as the views show them.

use super::state::Web;
use crate::catalogue::Catalogue;
use crate::lifetime::Lifetime;
use crate::secret::masked;
use crate::store::keys::KeyRecord;
use keyward_policy::timestamp::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The time before its expiry in which a key says so.
const SOON: i64 = 7 * DAY;

/// A state in a word or two. Its colour only repeats the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// `good`, `warn`, `bad` or `quiet`.
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

impl Tag {
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    fn html(&self) -> String {
        format!("<span class=\"tag {}\">{}</span>", self.kind, self.text)
    }
}

/// A permission by its label, or by its id if the catalogue no longer has it.
#[derive(Debug, Clone)]
pub(super) struct PermissionTag {
    pub id: String,
    pub label: String,
}

/// A key, as lists and confirmations show it.
pub(super) struct KeyRow {
    pub id: String,
    pub name: String,
    /// `None` means that the key is active, which a list does not say.
    pub state: Option<Tag>,
    pub permissions: Vec<PermissionTag>,
    pub masked: String,
    /// When the key was created. All times here are markup.
    pub created: String,
    pub regenerated: Option<String>,
    pub expires: String,
    pub last_used: String,
    pub lifetime: &'static str,
    pub never_used: bool,
    pub disabled: bool,
    pub revision: u64,
}

/// A moment as markup: RFC 3339 in UTC, which the script turns into local time with UTC beside it.
pub(super) fn time(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time datetime=\"{text}\">{text}</time>")
}

/// Returns a time as markup for use inside a sentence.
pub(super) fn time_inline(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time class=\"inline\" datetime=\"{text}\">{text}</time>")
}

/// Returns a time as markup, shown to the second.
pub(super) fn time_to_the_second(at: Timestamp) -> String {
    let text = whole_seconds(at);
    format!("<time data-seconds datetime=\"{text}\">{text}</time>")
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(at.unix_ms().div_euclid(1000) * 1000)
}

/// Returns when a key expires as markup, with words if that is soon, over or never.
pub(super) fn expiry(expires_at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = expires_at else { return Tag::new("warn", "Never expires").html() };
    let left = at.unix_ms() - now.unix_ms();
    let tag = match left {
        ..=0 => Some(Tag::new("bad", "Expired")),
        1..HOUR => Some(Tag::new("warn", count("Expires in", left.div_euclid(MINUTE).max(1), "minute"))),
        HOUR..DAY => Some(Tag::new("warn", count("Expires in", left / HOUR, "hour"))),
        DAY..=SOON => Some(Tag::new("warn", count("Expires in", left / DAY, "day"))),
        _ => None,
    };
    tag.map_or_else(|| time(at), |tag| format!("{} {}", time(at), tag.html()))
}

fn count(words: &str, number: i64, unit: &str) -> String {
    format!("{words} {number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Returns the label of a lifetime.
pub(super) const fn lifetime_label(lifetime: Lifetime) -> &'static str {
    match lifetime {
        Lifetime::Week => "7 days",
        Lifetime::Month => "30 days",
        Lifetime::TwoMonths => "60 days",
        Lifetime::Quarter => "90 days",
        Lifetime::HalfYear => "180 days",
        Lifetime::Never => "No expiration",
    }
}

/// Returns the label of a permission.
pub(super) fn permission_label(catalogue: &Catalogue, id: &str) -> String {
    catalogue.permissions().find(|known| known.id == id).map_or(id, |known| &known.label).to_owned()
}

impl KeyRow {
    pub fn new(web: &Web, key: &KeyRecord) -> Self {
        let now = web.service().clock().now();
        let catalogue = &web.service().settings.catalogue;
        let state = if key.disabled {
            Some(Tag::new("bad", "Disabled"))
        } else if key.expires_at.is_some_and(|at| at <= now) {
            Some(Tag::new("bad", "Expired"))
        } else {
            None
        };
        let permissions = key.permissions.iter();
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            state,
            permissions: permissions
                .map(|id| PermissionTag { id: id.clone(), label: permission_label(catalogue, id) })
                .collect(),
            masked: masked(&key.prefix, &key.last_four),
            created: time(key.created_at),
            regenerated: key.regenerated_at.map(time),
            expires: expiry(key.expires_at, now),
            last_used: key.last_used_at.map_or_else(|| Tag::new("quiet", "Never used").html(), time),
            lifetime: lifetime_label(key.expires_in),
            never_used: key.last_used_at.is_none(),
            disabled: key.disabled,
            revision: key.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_that_is_near_is_said_in_words() {
        let now = Timestamp::parse("2027-01-01T00:00:00Z").unwrap();
        let after = |ms: i64| expiry(Some(Timestamp::from_unix_ms(now.unix_ms() + ms)), now);
        assert!(expiry(None, now).contains("Never expires"));
        assert!(after(-1).contains(">Expired<"));
        assert!(after(0).contains(">Expired<"));
        assert!(after(1).contains("Expires in 1 minute<"));
        assert!(after(2 * HOUR).contains("Expires in 2 hours<"));
        assert!(after(DAY).contains("Expires in 1 day<"));
        assert!(after(SOON).contains("Expires in 7 days<"));
        assert!(!after(SOON + 1).contains("Expires in"));
        assert!(after(30 * DAY).contains("<time datetime=\"2027-01-31T00:00:00Z\">2027-01-31T00:00:00Z</time>"));
    }
}
