//! Requests by day as a picture: bars for what was let through and for what was refused, and a table with the same numbers.
//!
//! The two have scales of their own: a handful of refused requests would be invisible beside a million others.

use super::number::grouped;
use crate::service::usage::{DayUsage, denied_by_code};
use keyward_policy::decision::Code;

/// The height of a day that has a request, in percent: it is seen, however many the busiest day had.
const MIN_HEIGHT: f64 = 5.0;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a chart shows.
pub(super) struct Chart {
    pub days: usize,
    pub strips: [Strip; 2],
    /// The places of dates below the bars.
    pub ticks: Vec<Tick>,
    /// Why requests were refused.
    pub reasons: Vec<Reason>,
    /// The days that have requests, newest first.
    pub rows: Vec<Row>,
}

/// The bars of one kind of requests.
pub(super) struct Strip {
    pub label: &'static str,
    pub kind: &'static str,
    pub sum: String,
    /// The busiest day in words. It is empty where there was no request.
    pub most: String,
    pub bars: Vec<Bar>,
}

/// The bar of one day. Numbers are percent of the picture.
pub(super) struct Bar {
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
    /// The day and its number, for who points at the bar.
    pub title: String,
}

/// A date below the bars.
pub(super) struct Tick {
    /// Percent of the picture.
    pub x: String,
    pub anchor: &'static str,
    pub text: String,
    /// Whether a narrow picture leaves it out.
    pub minor: bool,
}

/// The requests that were refused with one code.
pub(super) struct Reason {
    pub code: String,
    pub title: &'static str,
    pub count: String,
}

/// A day in numbers.
pub(super) struct Row {
    pub day: String,
    pub allowed: String,
    pub denied: String,
    /// What the refused requests are made of.
    pub codes: String,
}

/// Returns a day as people write it: `28 Nov 2026`.
fn written(day: &DayUsage) -> String {
    let date = day.date();
    let mut parts = date.split('-');
    let year = parts.next().unwrap_or_default();
    let month = parts.next().and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let of_month = parts.next().unwrap_or_default().trim_start_matches('0');
    format!("{of_month} {} {year}", MONTHS.get(month - 1).unwrap_or(&""))
}

fn percent(number: f64) -> String {
    format!("{number:.2}%")
}

impl Strip {
    fn new(label: &'static str, kind: &'static str, days: &[DayUsage], count: fn(&DayUsage) -> u64) -> Self {
        let most = days.iter().max_by_key(|day| count(day)).filter(|day| count(day) > 0);
        let highest = most.map_or(1, count);
        let step = 100.0 / days.len().max(1) as f64;
        let bar = |(place, day): (usize, &DayUsage)| {
            let number = count(day);
            let height = (number as f64 / highest as f64 * 100.0).max(MIN_HEIGHT);
            (number > 0).then(|| Bar {
                x: percent((place as f64 + 0.12) * step),
                y: percent(100.0 - height),
                width: percent(0.76 * step),
                height: percent(height),
                title: format!("{}: {} {}", written(day), grouped(number), label.to_lowercase()),
            })
        };
        Self {
            label,
            kind,
            sum: grouped(days.iter().fold(0, |sum: u64, day| sum.saturating_add(count(day)))),
            most: most
                .map(|day| format!("most on {}: {}", written(day).replace(' ', "\u{a0}"), grouped(count(day))))
                .unwrap_or_default(),
            bars: days.iter().enumerate().filter_map(bar).collect(),
        }
    }
}

impl Chart {
    /// Makes a chart of days, which are in their order and end today.
    pub(super) fn new(days: &[DayUsage]) -> Self {
        let title = |code: &str| Code::ALL.into_iter().find(|known| known.as_str() == code).map_or("", Code::title);
        let mut reasons: Vec<(&str, u64)> = denied_by_code(days).into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let reason =
            |(code, count): (&str, u64)| Reason { code: code.to_owned(), title: title(code), count: grouped(count) };
        let row = |day: &DayUsage| Row {
            day: written(day),
            allowed: grouped(day.allowed),
            denied: grouped(day.denied_count()),
            codes: day
                .denied
                .iter()
                .map(|(code, count)| format!("{code}\u{a0}{}", grouped(*count)))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let has_requests = |day: &&DayUsage| day.allowed > 0 || day.denied_count() > 0;
        Self {
            days: days.len(),
            strips: [
                Strip::new("Let through", "let-through", days, |day| day.allowed),
                Strip::new("Refused", "refused", days, DayUsage::denied_count),
            ],
            ticks: ticks(days),
            reasons: reasons.into_iter().map(reason).collect(),
            rows: days.iter().rev().filter(has_requests).map(row).collect(),
        }
    }

    /// Returns whether there was no request at all.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Returns the dates below the bars: the first day, today, and the first days of months that are not too near to these.
fn ticks(days: &[DayUsage]) -> Vec<Tick> {
    let short = |day: &DayUsage| written(day).rsplit_once(' ').map(|(date, _)| date.to_owned()).unwrap_or_default();
    let mut ticks = Vec::new();
    for (place, day) in days.iter().enumerate() {
        let share = (place as f64 + 0.5) / days.len() as f64;
        let is_last = place + 1 == days.len();
        let (x, anchor) = match place {
            0 => (0.0, "start"),
            _ if is_last => (1.0, "end"),
            _ if day.date().ends_with("-01") && (0.13..0.87).contains(&share) => (share, "middle"),
            _ => continue,
        };
        let text = if is_last { "Today".to_owned() } else { short(day) };
        ticks.push(Tick { x: percent(x * 100.0), anchor, text, minor: anchor == "middle" });
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64, allowed: u64, denied: &[(&str, u64)]) -> DayUsage {
        DayUsage { day, allowed, denied: denied.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect() }
    }

    #[test]
    fn the_busiest_day_is_as_high_as_the_picture_and_no_day_with_requests_is_invisible() {
        // 2026-08-31 to 2026-11-28.
        let days: Vec<DayUsage> = (20_696..=20_785)
            .map(|number| match number {
                20_700 => day(number, 1_000_000, &[]),
                20_785 => day(number, 1, &[("route_denied", 2), ("key_disabled", 1)]),
                _ => day(number, 0, &[]),
            })
            .collect();
        let chart = Chart::new(&days);
        let [through, refused] = &chart.strips;
        let heights: Vec<&str> = through.bars.iter().map(|bar| bar.height.as_str()).collect();
        assert_eq!(heights, ["100.00%", "5.00%"]);
        assert_eq!(refused.bars.len(), 1);
        assert_eq!((refused.bars[0].x.as_str(), refused.bars[0].width.as_str()), ("99.02%", "0.84%"));
        assert_eq!(through.most.replace(['\u{202f}', '\u{a0}'], " "), "most on 4 Sep 2026: 1 000 000");
        assert_eq!(refused.bars[0].title, "28 Nov 2026: 3 refused");
        let ticks: Vec<&str> = chart.ticks.iter().map(|tick| tick.text.as_str()).collect();
        assert_eq!(ticks, ["31 Aug", "1 Oct", "1 Nov", "Today"]);
        let reasons: Vec<(&str, &str)> =
            chart.reasons.iter().map(|reason| (reason.code.as_str(), reason.count.as_str())).collect();
        assert_eq!(reasons, [("route_denied", "2"), ("key_disabled", "1")]);
        let rows: Vec<&str> = chart.rows.iter().map(|row| row.day.as_str()).collect();
        assert_eq!(rows, ["28 Nov 2026", "4 Sep 2026"]);
        assert!(Chart::new(&days[..3]).is_empty());
    }
}
