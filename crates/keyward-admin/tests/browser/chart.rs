//! The chart of requests by day says the same as its table.

use crate::Page;
use crate::place::{Place, everywhere};
use serde_json::json;

everywhere!(a_chart_and_its_table_show_what_filters_report);
fn a_chart_and_its_table_show_what_filters_report(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let browser = &page.browser;
    page.goto("/settings/usage");
    assert!(browser.text_of("#by-day").contains("No filter has reported a request of the last 90 days."));
    let (reader, other) = (page.make("Reader", &["records:read"]), page.make("Other", &["records:read"]));
    page.use_by_day(&reader, &[(0, 10, 0), (1, 1_000, 1), (89, 500, 20)]);
    page.use_by_day(&other, &[(1, 234, 0)]);
    let bars = |strip: &str| {
        browser.eval(&format!(
            "const strip = document.querySelector('.bars.{strip}').getBoundingClientRect();
             return [...document.querySelectorAll('.bars.{strip} rect')].map((bar) => {{
               const box = bar.getBoundingClientRect();
               return [Math.round((box.left - strip.left) / strip.width * 90 - .12), Math.round(box.height / strip.height * 20)];
             }})"
        ))
    };
    page.goto(&format!("/settings/keys/{reader}"));
    // The places of the days, and their heights in twentieths: none is invisible.
    assert_eq!(bars("let-through"), json!([[0, 10], [88, 20], [89, 1]]));
    assert_eq!(bars("refused"), json!([[0, 20], [88, 1]]));
    let text = browser.text_of("#by-day").replace('\u{202f}', " ");
    for says in
        ["Let through 1 510", "Refused 23", "Permission missing permission_missing 21", "route_denied 2", "Today"]
    {
        assert!(text.contains(says), "{says}: {text}");
    }
    // What a reader hears of the picture.
    let label = browser.eval("return document.querySelector('.bars.let-through').getAttribute('aria-label')");
    let label = label.as_str().expect("a label").replace('\u{202f}', " ");
    assert!(
        label.starts_with("Let through in the last 90 days: 1 510, most on ") && label.ends_with(": 1 000"),
        "{label}"
    );
    browser.click("#days summary");
    let rows = browser.eval(
        "return [...document.querySelectorAll('#days tbody tr')].map((row) => [...row.querySelectorAll('td')].map((cell) => cell.innerText.split('\\n')[0]))",
    );
    assert_eq!(
        rows.to_string().replace('\u{202f}', " "),
        json!([["10", "0"], ["1 000", "1"], ["500", "22"]]).to_string()
    );
    page.goto("/settings/usage");
    assert!(browser.text_of("#by-day").replace('\u{202f}', " ").contains("Let through 1 744"));
    // A key that is gone is still in the sum.
    page.service.admin().delete(&format!("/v1/keys/{reader}")).ok(200);
    page.goto("/settings/usage");
    assert!(browser.text_of("#by-day").replace('\u{202f}', " ").contains("Let through 1 744"));
    page.assert_no_complaints();
}
