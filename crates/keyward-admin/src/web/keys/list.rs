//! The list of keys.

use super::detail::grouped;
use crate::web::chrome::{Chrome, Section, render};
use crate::web::failure::Failure;
use crate::web::form::FormFields;
use crate::web::user::User;
use crate::web::view::KeyRow;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;

/// Keys that the view shows at once.
const LIMIT: u32 = 25;

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysView {
    page: Chrome,
    q: String,
    total: String,
    /// `26–50 of 10 000`, where that is known and there is more than one page.
    range: Option<String>,
    one: bool,
    none: bool,
    rows: Vec<KeyRow>,
    /// Whether there are newer keys than the ones shown.
    paged: bool,
    first_href: String,
    next: Option<String>,
}

pub(in crate::web) async fn list(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let q: String = fields.text("q").trim().chars().take(100).collect();
    let cursor = fields.text("after").parse().ok();
    let service = user.web.service();
    let keys = service.list_keys(&q, cursor, LIMIT).await?;
    let total = service.feed.state().head.live_count;
    // The links count along. Without them the place of a page is not known.
    let first = match cursor {
        None => Some(1),
        Some(_) => fields.text("from").parse::<u64>().ok().filter(|from| (1..=total).contains(from)),
    };
    let last = first.map(|first| first + keys.keys.len() as u64 - 1);
    let range = first.zip(last).filter(|(first, last)| q.is_empty() && (*first > 1 || *last < total));
    let range = range.map(|(first, last)| format!("{}–{} of {}", grouped(first), grouped(last), grouped(total)));
    let href = |after: Option<i64>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !q.is_empty() {
            query.append_pair("q", &q);
        }
        if let Some(after) = after {
            query.append_pair("after", &after.to_string());
            if let Some(last) = last {
                query.append_pair("from", &(last + 1).to_string());
            }
        }
        match query.finish() {
            query if query.is_empty() => "/settings/keys".to_owned(),
            query => format!("/settings/keys?{query}"),
        }
    };
    let view = KeysView {
        rows: keys.keys.iter().map(|key| KeyRow::new(&user.web, key)).collect(),
        one: total == 1,
        none: total == 0,
        total: grouped(total),
        range,
        paged: cursor.is_some(),
        first_href: href(None),
        next: keys.next.map(|next| href(Some(next))),
        page: user.chrome(Section::Keys, Some("keys")),
        q,
    };
    render(StatusCode::OK, &view)
}
