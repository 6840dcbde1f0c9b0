//! Reading of an answer, with all checks that need no table.

use super::failure::Failure;
use super::request::{Answer, MAX_PAGE_BYTES, Outcome};
use crate::manifest::{self, Page};
use serde_json::error::Category;

/// The longest store identity that is accepted.
const MAX_STORE_BYTES: usize = 200;

/// Returns the page in an answer to a request with this `since`, or why the answer has none.
pub(super) fn read<'a>(outcome: &Outcome<'a>, since: u64) -> Result<Page<'a>, Failure> {
    let answer = match outcome {
        Outcome::Answer(answer) => answer,
        Outcome::NoAnswer => return Err(Failure::NoAnswer),
        Outcome::NotSent => return Err(Failure::NotSent),
    };
    match answer.status {
        200 => parse(answer, since),
        401 | 403 => Err(Failure::Unauthorized(answer.status)),
        409 => Err(Failure::WrongRealm),
        410 => Err(Failure::Compacted),
        429 => Err(Failure::Busy),
        status => Err(Failure::Status(status)),
    }
}

fn parse<'a>(answer: &Answer<'a>, since: u64) -> Result<Page<'a>, Failure> {
    if answer.body.len() > MAX_PAGE_BYTES {
        return Err(Failure::TooLarge(answer.body.len()));
    }
    // One check of the whole body is cheaper than the parser's check of each string.
    let text = std::str::from_utf8(answer.body).map_err(|error| format!("not UTF-8, at byte {}", error.valid_up_to()));
    let page = text.and_then(|text| serde_json::from_str::<Page<'a>>(text).map_err(|error| place(&error)));
    let page = page.map_err(|place| match format_of(answer.body) {
        // A later format may differ in everything except the place of its number.
        Some(format) if format != manifest::FORMAT => Failure::Format(format),
        _ => Failure::Malformed(place),
    })?;
    check(&page, since)?;
    Ok(page)
}

/// Returns the number after the first `"format":`, which is where a service writes it.
fn format_of(body: &[u8]) -> Option<u32> {
    const FIELD: &[u8] = b"\"format\":";
    let start = body.get(..256).unwrap_or(body);
    let at = start.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let digits = start.get(at..)?.trim_ascii_start().split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the place and the kind of an error. The parser's own text may quote the page, which contains digests.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io => "unreadable",
        Category::Syntax => "not JSON",
        Category::Data => "a field is missing or has the wrong type",
        Category::Eof => "it ends too early",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

fn check(page: &Page<'_>, since: u64) -> Result<(), Failure> {
    let out_of_order = |what: String| Err(Failure::OutOfOrder(what));
    if page.format != manifest::FORMAT {
        return Err(Failure::Format(page.format));
    }
    if page.store.is_empty() || page.store.len() > MAX_STORE_BYTES {
        return out_of_order(format!("`store` has {} bytes, and 1 to {MAX_STORE_BYTES} make sense", page.store.len()));
    }
    if page.since != since {
        return out_of_order(format!("`since` is {} where {since} was asked", page.since));
    }
    if page.revision < since || page.head < page.revision {
        return out_of_order(format!("since {since}, revision {}, head {} must not fall", page.revision, page.head));
    }
    let mut last = since;
    for change in &page.keys {
        if change.revision() <= last || change.revision() > page.revision {
            return out_of_order(format!("a change of revision {} behind {last}", change.revision()));
        }
        last = change.revision();
    }
    if page.more && page.revision == since {
        return out_of_order("`more` without progress".to_owned());
    }
    if !page.more && page.live.checksum.is_none() {
        return out_of_order("no `live.checksum` on the last page".to_owned());
    }
    Ok(())
}
