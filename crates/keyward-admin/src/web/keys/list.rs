//! The list of keys.

use super::fields::{GroupFields, KeyFields};
use crate::service::keys::KeyQuery;
use crate::store::Status;
use crate::store::list::{Cursor, Filter, MAX_COUNT, Order, Sort};
use crate::web::chrome::{Chrome, Section, render};
use crate::web::failure::Failure;
use crate::web::form::FormFields;
use crate::web::number::grouped;
use crate::web::user::User;
use crate::web::view::KeyRow;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::count::ending;
use keyward_policy::timestamp::{DAY_MS, Timestamp};

/// Keys that the view shows at once.
const LIMIT: u32 = 25;

/// The choices of the filters: the value in the address, and the words.
const STATUSES: [(&str, &str); 4] =
    [("", "Any"), ("active", "Active"), ("expired", "Expired"), ("disabled", "Disabled")];
const USES: [(&str, &str); 2] = [("", "Any"), ("never", "Never used")];
const ENDS: [(&str, &str); 5] =
    [("", "Any time"), ("7", "Within 7 days"), ("30", "Within 30 days"), ("90", "Within 90 days"), ("never", "Never")];
const SORTS: [(&str, &str); 7] = [
    ("", "Default"),
    ("created", "Newest first"),
    ("-created", "Oldest first"),
    ("name", "Name, A to Z"),
    ("-name", "Name, Z to A"),
    ("expires", "Expires soonest first"),
    ("-expires", "Expires latest first"),
];

/// An option of a filter.
struct FilterChoice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysView {
    page: Chrome,
    q: String,
    total: String,
    /// What the list holds, in words.
    count: String,
    /// `26–50 of 10 000`, where that is known and there is more than one page.
    range: Option<String>,
    none: bool,
    /// Whether a filter is set, besides the text that is searched.
    filtered: bool,
    /// Whether an order is chosen.
    sorted: bool,
    rows: Vec<KeyRow>,
    /// Whether this is the first page.
    first: bool,
    statuses: Vec<FilterChoice>,
    uses: Vec<FilterChoice>,
    ends: Vec<FilterChoice>,
    sorts: Vec<FilterChoice>,
    groups: Vec<GroupFields>,
    /// The words of the links to the pages beside this one.
    onwards: &'static str,
    back: &'static str,
    previous: Option<String>,
    next: Option<String>,
}

fn offered(choices: &[(&'static str, &'static str)], chosen: &str) -> Vec<FilterChoice> {
    let of = |&(value, label): &(&'static str, &'static str)| FilterChoice { value, label, chosen: value == chosen };
    choices.iter().map(of).collect()
}

/// Reads the filters of an address. What means nothing is passed over: an address may be old, or typed.
fn filter_of(fields: &FormFields, now: Timestamp) -> Filter {
    let days = fields.text("expires").parse::<i64>().ok().filter(|days| (1..=9_999).contains(days));
    Filter {
        q: fields.text("q").trim().chars().take(100).collect(),
        status: fields.text("status").parse::<Status>().ok(),
        permission: Some(fields.text("permission").to_owned())
            .filter(|id| !id.is_empty() && !id.contains(char::is_control)),
        never_used: fields.text("use") == "never",
        never_expires: fields.text("expires") == "never",
        expires_until: days.map(|days| Timestamp::from_unix_ms(now.unix_ms() + days * DAY_MS)),
    }
}

pub(in crate::web) async fn list(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let service = user.web.service();
    let filter = filter_of(&fields, service.clock().now());
    let sort = fields.text("sort").parse::<Sort>().ok();
    let cursor = fields.text("cursor").parse::<Cursor>().ok();
    let query = KeyQuery { filter, sort, cursor, limit: LIMIT };
    let keys = service.list_keys(&query).await?;
    let KeyQuery { filter, cursor, .. } = query;
    let total = service.feed.state().head.live_count;
    let counted = service.count_keys(&filter).await?;
    let shown = keys.keys.len() as u64;
    // The links count along. Without them the place of a page is not known.
    let from = match cursor {
        None => Some(1),
        Some(_) if keys.previous.is_none() => Some(1),
        Some(_) => fields.text("from").parse::<u64>().ok().filter(|from| (1..=total).contains(from)),
    };
    let last = from.map(|from| from + shown - shown.min(1));
    let href = |cursor: Option<&Cursor>, from: Option<u64>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for name in ["q", "status", "permission", "use", "expires", "sort"] {
            let value = if name == "q" { &filter.q } else { fields.text(name) };
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        if let Some(cursor) = cursor {
            query.append_pair("cursor", &cursor.to_string());
            if let Some(from) = from {
                query.append_pair("from", &from.to_string());
            }
        }
        match query.finish() {
            query if query.is_empty() => "/settings/keys".to_owned(),
            query => format!("/settings/keys?{query}"),
        }
    };
    // Before the first page there is nothing, whatever the links counted.
    let before = from.map(|from| from.saturating_sub(u64::from(LIMIT)).max(1));
    let previous = keys.previous.as_ref().map(|cursor| match before {
        Some(1) if from == Some(1 + u64::from(LIMIT)) => href(None, None),
        _ => href(Some(cursor), before),
    });
    let next = keys.next.as_ref().map(|cursor| href(Some(cursor), last.map(|last| last + 1)));
    let of = match counted {
        Some(count) if filter.is_empty() || count <= MAX_COUNT => format!(" of {}", grouped(count)),
        Some(_) => format!(" of more than {}", grouped(MAX_COUNT)),
        None => String::new(),
    };
    let range = from.zip(last).filter(|_| shown > 0 && (previous.is_some() || next.is_some()));
    let range = range.map(|(from, last)| format!("{}–{}{of}", grouped(from), grouped(last)));
    let usual = sort.unwrap_or(Sort { by: filter.usual_order(), reversed: false });
    let by_age = usual.by == Order::Created || !filter.q.is_empty();
    let (onwards, back) = match (by_age, usual.reversed) {
        (true, false) => ("Older keys", "Newer keys"),
        (true, true) => ("Newer keys", "Older keys"),
        (false, _) => ("Next keys", "Previous keys"),
    };
    let filtered = Filter { q: String::new(), ..filter.clone() } != Filter::default();
    let chosen: Vec<String> = filter.permission.iter().cloned().collect();
    let view = KeysView {
        count: count_in_words(&filter, counted, shown, cursor.is_none() && next.is_none()),
        rows: keys.keys.iter().map(|key| KeyRow::new(&user.web, key)).collect(),
        none: total == 0,
        total: grouped(total),
        first: previous.is_none(),
        statuses: offered(&STATUSES, fields.text("status")),
        uses: offered(&USES, fields.text("use")),
        ends: offered(&ENDS, fields.text("expires")),
        sorts: offered(&SORTS, fields.text("sort")),
        groups: KeyFields::new(&service.settings.catalogue, "", &chosen, &chosen).groups,
        page: user.chrome(Section::Keys, Some("keys")),
        q: filter.q,
        range,
        filtered,
        sorted: sort.is_some(),
        onwards,
        back,
        previous,
        next,
    };
    render(StatusCode::OK, &view)
}

/// Says how many keys the list holds. `is_whole` means that the first page is the last one.
fn count_in_words(filter: &Filter, counted: Option<u64>, shown: u64, is_whole: bool) -> String {
    match counted {
        Some(count) if filter.is_empty() => format!("{} key{}", grouped(count), ending(count)),
        _ if shown == 0 && is_whole => "No match".to_owned(),
        Some(count) if count <= MAX_COUNT => format!("{} found", grouped(count)),
        Some(_) => format!("More than {} found", grouped(MAX_COUNT)),
        None if is_whole => format!("{} found", grouped(shown)),
        // The page ended before all keys were looked at.
        None if shown < u64::from(LIMIT) => format!("{} found so far", grouped(shown)),
        None => format!("More than {} found", grouped(shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_said_as_far_as_it_is_known() {
        let filter = Filter { never_used: true, ..Filter::default() };
        let words =
            |counted, shown, is_whole| count_in_words(&filter, counted, shown, is_whole).replace('\u{202f}', " ");
        assert_eq!(words(Some(3), 3, true), "3 found");
        assert_eq!(words(Some(1_001), 25, false), "More than 1 000 found");
        assert_eq!(words(None, 7, true), "7 found");
        assert_eq!(words(None, 25, false), "More than 25 found");
        assert_eq!(words(None, 3, false), "3 found so far");
        assert_eq!(words(None, 0, true), "No match");
        assert_eq!(words(Some(0), 0, true), "No match");
        assert_eq!(count_in_words(&Filter::default(), Some(1), 1, true), "1 key");
    }
}
