//! Receipts: how many VMs have applied a change, as text that updates itself.

use super::failure::Failure;
use super::state::Web;
use super::user::User;
use super::view::time_inline;
use crate::service::proxies::Applied;
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::timestamp::Timestamp;
use std::time::Duration;

/// How long a form waits for a complete receipt before it answers. The view then updates the receipt.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// What VMs do when they apply a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// They refuse a deleted, disabled or replaced key.
    Refused,
    /// They accept a new key, or one that is enabled again.
    Known,
    /// They use a key's new name or permissions.
    Applied,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Known => "known",
            Self::Applied => "applied",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Refused, Self::Known, Self::Applied].into_iter().find(|verb| verb.as_str() == text)
    }
}

#[derive(Template)]
#[template(path = "receipt.html")]
struct ReceiptView {
    kind: &'static str,
    verb: &'static str,
    revision: u64,
    /// Whether VMs that have not applied the change may still do so.
    waiting: bool,
    headline: String,
    rest: Option<String>,
    /// The moment that `rest` ends with, as markup.
    by: Option<String>,
}

impl ReceiptView {
    fn new(verb: Verb, revision: u64, applied: &Applied, took: Option<Duration>, now: Timestamp) -> Self {
        let does = match verb {
            Verb::Refused => "Refused by",
            Verb::Known => "Known to",
            Verb::Applied => "Applied by",
        };
        let complete = applied.is_complete();
        let headline = match applied.of {
            None => "This replica of the service cannot see the filters of the others right now.".to_owned(),
            Some(0) if applied.unreachable == 0 => "No filter is in contact.".to_owned(),
            Some(of) => {
                let vms = if of == 1 { "VM" } else { "VMs" };
                let after = match took {
                    Some(took) if complete && of > 0 => format!(" after {} ms", took.as_millis().max(1)),
                    _ if complete => String::new(),
                    _ => " so far".to_owned(),
                };
                format!("{does} {} of {of} filter {vms}{after}.", applied.vms)
            }
        };
        let (rest, by) = Self::rest(verb, applied, now);
        let waiting = !complete || applied.unreachable > 0;
        Self { kind: if waiting { "warn" } else { "good" }, verb: verb.as_str(), revision, waiting, headline, rest, by }
    }

    /// Returns a sentence about the VMs that have not applied the change.
    fn rest(verb: Verb, applied: &Applied, now: Timestamp) -> (Option<String>, Option<String>) {
        let out = applied.unreachable;
        let Some(of) = applied.of else {
            return (Some("How many have applied the change cannot be told from here.".to_owned()), None);
        };
        let words = match verb {
            _ if out == 0 && applied.is_complete() => {
                let none = match verb {
                    _ if of > 0 => None,
                    Verb::Refused => Some("There is none that could still let the old key through."),
                    Verb::Known | Verb::Applied => Some("The first that connects will know it."),
                };
                return (none.map(str::to_owned), None);
            }
            Verb::Known | Verb::Applied if out == 0 => return (None, None),
            Verb::Known | Verb::Applied => {
                let text = format!("{out} out of contact will learn of it as soon as they are back.");
                return (Some(text), None);
            }
            Verb::Refused if out == 0 => "The others refuse by".to_owned(),
            Verb::Refused => format!("{out} out of contact {} by", if out == 1 { "refuses" } else { "refuse" }),
        };
        match applied.refused_everywhere_by {
            Some(by) if by > now => (Some(words), Some(time_inline(by))),
            Some(_) => (Some(format!("{out} out of contact had applied it before they were lost.")), None),
            None => {
                let text = "At least one of those without contact has no limit of staleness: it keeps what it knew \
                            until it is back.";
                (Some(text.to_owned()), None)
            }
        }
    }
}

impl Web {
    /// Returns the receipt of a change as markup, after waiting up to `wait` until every VM in contact has applied it.
    pub(super) async fn receipt(&self, verb: Verb, revision: u64, wait: Duration) -> Result<String, Failure> {
        let applied = self.service().proxies.receipt(revision, wait).await;
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
        Applied { vms, of: of.into(), unreachable, refused_everywhere_by }
    }

    #[test]
    fn a_receipt_says_what_is_known_and_no_more() {
        let later = Some("2027-01-01T00:14:00Z");
        let now = Some("2027-01-01T00:00:00Z");
        for (verb, receipt, took, says) in [
            (Verb::Refused, applied(6, 6, 0, now), Some(12), "Refused by 6 of 6 filter VMs after 12 ms."),
            (Verb::Refused, applied(1, 1, 0, now), Some(0), "Refused by 1 of 1 filter VM after 1 ms."),
            (Verb::Refused, applied(6, 6, 0, now), None, "Refused by 6 of 6 filter VMs."),
            (
                Verb::Refused,
                applied(6, 6, 3, later),
                Some(12),
                "Refused by 6 of 6 filter VMs after 12 ms. 3 out of contact refuse by … at the latest",
            ),
            (
                Verb::Refused,
                applied(4, 6, 0, later),
                None,
                "Refused by 4 of 6 filter VMs so far. The others refuse by … at the latest",
            ),
            (
                Verb::Refused,
                applied(6, 6, 1, None),
                Some(12),
                "Refused by 6 of 6 filter VMs after 12 ms. At least one of those without contact has no limit of \
                 staleness: it keeps what it knew until it is back.",
            ),
            (
                Verb::Refused,
                applied(0, 0, 0, now),
                Some(0),
                "No filter is in contact. There is none that could still let the old key through.",
            ),
            (
                Verb::Refused,
                applied(0, None, 0, None),
                None,
                "This replica of the service cannot see the filters of the others right now. How many have applied \
                 the change cannot be told from here.",
            ),
            (Verb::Known, applied(2, 2, 0, now), Some(3), "Known to 2 of 2 filter VMs after 3 ms."),
            (
                Verb::Applied,
                applied(2, 2, 1, later),
                Some(3),
                "Applied by 2 of 2 filter VMs after 3 ms. 1 out of contact will learn of it as soon as they are back.",
            ),
        ] {
            assert_eq!(words(verb, receipt, took), says);
        }
    }
}
