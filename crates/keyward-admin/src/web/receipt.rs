//! Receipts: how many instances have applied a change, as text that updates itself.

use super::failure::Failure;
use super::moment::time_inline;
use super::state::Web;
use super::user::User;
use crate::service::proxies::{Applied, Doubts};
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::count::counted;
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;

/// How long a form waits for a complete receipt before it answers. The view then updates the receipt.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// What instances do when they apply a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// They refuse a deleted or disabled key.
    Refused,
    /// They refuse the old key of one that was regenerated.
    Replaced,
    /// They accept a new key, or one that is enabled again.
    Known,
    /// They use a key's new name or permissions.
    Applied,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::Known => "known",
            Self::Applied => "applied",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Refused, Self::Replaced, Self::Known, Self::Applied].into_iter().find(|verb| verb.as_str() == text)
    }
}

#[derive(Template)]
#[template(path = "receipt.html")]
struct ReceiptView {
    kind: &'static str,
    verb: &'static str,
    revision: u64,
    /// Whether instances that have not applied the change may still do so.
    waiting: bool,
    headline: String,
    rest: Option<String>,
    /// The moment that `rest` ends with, as markup.
    by: Option<String>,
}

impl ReceiptView {
    fn new(verb: Verb, revision: u64, applied: &Applied, took: Option<Duration>, now: Timestamp) -> Self {
        let does = match verb {
            // An instance in shadow mode applies a change, and refuses nothing.
            Verb::Refused | Verb::Replaced if applied.doubts.shadow > 0 => "Applied by",
            Verb::Refused => "Refused by",
            Verb::Replaced => "The old key is refused by",
            Verb::Known => "Works on",
            Verb::Applied => "Applied by",
        };
        let complete = applied.is_complete();
        let took =
            took.filter(|_| complete).map(|took| format!(" ({} ms)", took.as_millis().max(1))).unwrap_or_default();
        let headline = match applied.of {
            None => "This replica of the service cannot see the proxies of the others at the moment.".to_owned(),
            Some(0) => "No proxy is in contact.".to_owned(),
            Some(1) if complete => format!("{does} the only filter instance in contact{took}."),
            Some(of) if complete => format!("{does} all {of} filter instances in contact{took}."),
            Some(of) => format!("{does} {} of {} so far.", applied.vms, counted(of, "filter instance")),
        };
        let (rest, by) = Self::rest(verb, applied, now);
        let refuses = matches!(verb, Verb::Refused | Verb::Replaced);
        let waiting = !complete || applied.unreachable > 0;
        let good = !(waiting || refuses && applied.refused_everywhere_by.is_none());
        Self { kind: if good { "good" } else { "warn" }, verb: verb.as_str(), revision, waiting, headline, rest, by }
    }

    /// Returns a sentence about the instances that have not applied the change, and the moment that it ends with.
    fn rest(verb: Verb, applied: &Applied, now: Timestamp) -> (Option<String>, Option<String>) {
        let out = applied.unreachable;
        let Some(of) = applied.of else {
            return (Some("How many have applied the change is not known here.".to_owned()), None);
        };
        let key = match verb {
            Verb::Refused => "this key",
            Verb::Replaced => "the old key",
            Verb::Known | Verb::Applied => {
                let text = match (of, out) {
                    (0, 0) => Some("The first one that connects will know it.".to_owned()),
                    (_, 0) => None,
                    (_, 1) => Some("1 that is cut off will learn of it as soon as it is back.".to_owned()),
                    _ => Some(format!("{out} that are cut off will learn of it as soon as they are back.")),
                };
                return (text, None);
            }
        };
        let who = match out {
            0 => "The others".to_owned(),
            1 => "1 that is cut off".to_owned(),
            _ => format!("{out} that are cut off"),
        };
        if let Some(doubt) = doubt(&applied.doubts) {
            return (Some(doubt.to_owned()), None);
        }
        let all_have = out == 0 && applied.is_complete();
        match applied.refused_everywhere_by {
            Some(_) if all_have && of > 0 => (None, None),
            Some(_) if all_have => (Some(format!("None is left that could accept {key}.")), None),
            Some(by) if by > now => (Some(format!("{who} may accept {key} until")), Some(time_inline(by))),
            Some(_) => (Some(format!("{who} had applied the change before contact was lost.")), None),
            None if all_have => (Some(format!("Whether every proxy refuses {key} is not known.")), None),
            None => (Some(format!("{who} may accept {key}; until when is not known.")), None),
        }
    }
}

/// Says why nobody can tell by when a key is refused everywhere.
fn doubt(doubts: &Doubts) -> Option<&'static str> {
    if doubts.store_went_back {
        Some("The store went back to an earlier state: this change may be lost.")
    } else if doubts.vms_may_be_missing {
        Some(
            "The store failed over, was restored or upgraded, so the list of proxies may lack some: somebody has to confirm \
             it on the page Proxies, or with keyward proxies confirm.",
        )
    } else if doubts.shadow > 0 {
        Some("At least one filter is in shadow mode and refuses nothing.")
    } else if doubts.inline_keys > 0 {
        Some("At least one filter has keys in its own configuration. A copy of the key there may be accepted.")
    } else if doubts.disputed > 0 {
        Some("At least one filter instance is polled for by two callers that disagree.")
    } else {
        None
    }
}

impl Web {
    /// Returns the receipt of a change as markup, after waiting up to `wait` until every instance in contact has
    /// applied it.
    pub(super) async fn receipt(&self, verb: Verb, revision: u64, wait: Duration) -> Result<String, Failure> {
        let applied = self.app.receipt(revision, wait).await;
        let took = if applied.is_complete() { self.changes.complete(revision) } else { None };
        let receipt = ReceiptView::new(verb, revision, &applied, took, self.service().clock().now());
        receipt.render().map_err(|error| {
            tracing::error!(%error, "a receipt could not be rendered");
            Failure::Internal
        })
    }
}

/// Shows the receipt alone, for the script.
pub(super) async fn show(user: User, Path((verb, revision)): Path<(String, String)>) -> Result<Response, Failure> {
    let verb = Verb::parse(&verb).ok_or(Failure::NotFound)?;
    let revision = revision.parse().map_err(|_| Failure::NotFound)?;
    let receipt = user.web.receipt(verb, revision, Duration::ZERO).await?;
    let view = AloneView { receipt };
    super::chrome::render(StatusCode::OK, &view)
}

#[derive(Template)]
#[template(
    source = "<!doctype html><html lang=\"en\"><title>Receipt</title><main>{{ receipt|safe }}</main></html>",
    ext = "html"
)]
struct AloneView {
    receipt: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(verb: Verb, applied: Applied, took: Option<u64>) -> String {
        let now = Timestamp::parse("2027-01-01T00:00:00Z").unwrap();
        let receipt = ReceiptView::new(verb, 7, &applied, took.map(Duration::from_millis), now);
        let at_the_latest = receipt.by.map(|_| " … at the latest").unwrap_or_default();
        format!("{} {}{}", receipt.headline, receipt.rest.unwrap_or_default(), at_the_latest).trim().to_owned()
    }

    fn applied(vms: u64, of: impl Into<Option<u64>>, unreachable: u64, by: Option<&str>) -> Applied {
        let refused_everywhere_by = by.map(|by| Timestamp::parse(by).unwrap());
        Applied { vms, of: of.into(), unreachable, refused_everywhere_by, ..Applied::default() }
    }

    #[test]
    fn a_receipt_says_what_is_known_and_no_more() {
        let later = Some("2027-01-01T00:14:00Z");
        let now = Some("2027-01-01T00:00:00Z");
        for (verb, receipt, took, says) in [
            (Verb::Refused, applied(6, 6, 0, now), Some(12), "Refused by all 6 filter instances in contact (12 ms)."),
            (Verb::Refused, applied(1, 1, 0, now), Some(0), "Refused by the only filter instance in contact (1 ms)."),
            (Verb::Refused, applied(6, 6, 0, now), None, "Refused by all 6 filter instances in contact."),
            (
                Verb::Refused,
                applied(6, 6, 3, later),
                Some(12),
                "Refused by all 6 filter instances in contact (12 ms). 3 that are cut off may accept this key until … at the \
                 latest",
            ),
            (
                Verb::Refused,
                applied(4, 6, 0, later),
                Some(12),
                "Refused by 4 of 6 filter instances so far. The others may accept this key until … at the latest",
            ),
            (
                Verb::Refused,
                applied(6, 6, 1, None),
                Some(12),
                "Refused by all 6 filter instances in contact (12 ms). 1 that is cut off may accept this key; until when is not \
                 known.",
            ),
            (
                Verb::Refused,
                applied(6, 6, 0, None),
                None,
                "Refused by all 6 filter instances in contact. Whether every proxy refuses this key is not known.",
            ),
            (
                Verb::Refused,
                applied(0, 0, 3, later),
                Some(12),
                "No proxy is in contact. 3 that are cut off may accept this key until … at the latest",
            ),
            (
                Verb::Refused,
                applied(2, 2, 1, now),
                None,
                "Refused by all 2 filter instances in contact. 1 that is cut off had applied the change before contact was \
                 lost.",
            ),
            (
                Verb::Refused,
                applied(0, 0, 0, now),
                Some(0),
                "No proxy is in contact. None is left that could accept this key.",
            ),
            (
                Verb::Refused,
                applied(0, None, 0, None),
                None,
                "This replica of the service cannot see the proxies of the others at the moment. How many have applied the \
                 change is not known here.",
            ),
            (
                Verb::Replaced,
                applied(3, 3, 1, later),
                Some(3),
                "The old key is refused by all 3 filter instances in contact (3 ms). 1 that is cut off may accept the old key \
                 until … at the latest",
            ),
            (Verb::Known, applied(3, 3, 0, now), Some(3), "Works on all 3 filter instances in contact (3 ms)."),
            (
                Verb::Known,
                applied(0, 0, 0, now),
                None,
                "No proxy is in contact. The first one that connects will know it.",
            ),
            (
                Verb::Applied,
                applied(2, 2, 1, later),
                Some(3),
                "Applied by all 2 filter instances in contact (3 ms). 1 that is cut off will learn of it as soon as it is back.",
            ),
        ] {
            assert_eq!(words(verb, receipt, took), says);
        }
    }
}
