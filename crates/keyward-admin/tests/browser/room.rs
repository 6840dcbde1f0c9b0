//! Where there is room nothing wraps, in the fonts that each place has, and the cells of a card begin at one place.

use crate::Page;
use crate::driver::TAB;
use crate::layout::{bad_day, measured};
use crate::place::{EVENING_IN_LOS_ANGELES, NEW_YEAR_IN_TOKYO, NOON_IN_BERLIN, Place, everywhere};
use serde_json::json;

/// The fonts that Chromium has drawn an element's text with.
fn fonts_of(page: &Page, css: &str) -> Vec<String> {
    let browser = &page.browser;
    for domain in ["DOM", "CSS"] {
        browser.devtools(&format!("{domain}.enable"), json!({}));
    }
    let root = browser.devtools("DOM.getDocument", json!({}));
    let found = browser.devtools("DOM.querySelector", json!({"nodeId": root["root"]["nodeId"], "selector": css}));
    let fonts = browser.devtools("CSS.getPlatformFontsForNode", json!({"nodeId": found["nodeId"]}));
    let fonts = fonts["fonts"].as_array().into_iter().flatten();
    fonts.filter_map(|font| font["familyName"].as_str().map(str::to_owned)).collect()
}

#[test]
fn each_place_has_its_own_fonts() {
    for place in [NOON_IN_BERLIN, NEW_YEAR_IN_TOKYO, EVENING_IN_LOS_ANGELES] {
        let Some(page) = Page::open(place) else { return };
        assert_eq!(fonts_of(&page, "h1"), [place.fonts.text]);
        assert_eq!(fonts_of(&page, ".lead code"), [place.fonts.fixed]);
    }
}

fn with_room_nothing_wraps(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (_ids, _works) = bad_day(&page);
    page.make("CI Bot", &["records:read"]);
    let mut wrong = Vec::new();
    for (path, css) in [
        ("keys", "#keys .tag:not(:has(time))"),
        ("audit", "#entries [data-label=Who], #entries [data-label=What]"),
        ("proxies", ".node td .tag, .node [data-label=Lag]"),
    ] {
        page.goto(&format!("/settings/{path}"));
        for width in [1280, 1440, 1920] {
            page.browser.resize(width, 900);
            let found = page.browser.eval(&format!(
                "return [...document.querySelectorAll('{css}')].map((e) => {{
                   const range = document.createRange();
                   range.selectNodeContents(e);
                   const boxes = [...range.getClientRects()];
                   return [Math.max(...boxes.map((b) => b.bottom)) - Math.min(...boxes.map((b) => b.top)) < 30, e.textContent];
                 }})"
            ));
            let found = found.as_array().expect("a list");
            assert!(found.len() >= 3, "{path}: {found:?}");
            let wrapped = found.iter().filter(|one| one[0] == false);
            wrong.extend(wrapped.map(|one| format!("{path} at {width}: {}", one[1])));
        }
    }
    // What is done with a row, and with the filters, is in one line.
    for (path, css) in [
        ("keys", "#keys tbody tr:first-child .button"),
        ("audit?actor=nobody", ".filters :is(select, input, button, .button)"),
        ("audit?actor=nobody&since=2026-01-01&until=2026-02-02", ".filters :is(select, input, button, .button)"),
    ] {
        page.goto(&format!("/settings/{path}"));
        for width in [1280, 1440, 1920] {
            page.browser.resize(width, 900);
            let bottoms =
                format!("return [...document.querySelectorAll('{css}')].map((e) => e.getBoundingClientRect().bottom)");
            let bottoms = measured(&page, &bottoms);
            if bottoms.len() < 2 || bottoms.iter().any(|one| (one - bottoms[0]).abs() > 2.0) {
                wrong.push(format!("{path} at {width}: {bottoms:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn with_room_nothing_wraps_at_noon_in_berlin() {
    with_room_nothing_wraps(NOON_IN_BERLIN);
}

#[test]
fn with_room_nothing_wraps_at_new_year_in_tokyo() {
    with_room_nothing_wraps(NEW_YEAR_IN_TOKYO);
}

#[test]
fn with_room_nothing_wraps_in_the_evening_in_los_angeles() {
    with_room_nothing_wraps(EVENING_IN_LOS_ANGELES);
}

everywhere!(the_cells_of_a_card_begin_at_one_place);
fn the_cells_of_a_card_begin_at_one_place(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (_ids, _works) = bad_day(&page);
    for path in ["keys", "audit", "proxies"] {
        page.goto(&format!("/settings/{path}"));
        for width in [360, 600, 900] {
            page.browser.resize(width, 800);
            // A cell begins where its row does, or where another column of the card does.
            let lefts = measured(
                &page,
                "const row = document.querySelector('.stack tbody tr'), style = getComputedStyle(row);
                 const columns = style.gridTemplateColumns.split(' ').map(parseFloat);
                 const starts = [row.getBoundingClientRect().left + parseFloat(style.paddingLeft)];
                 for (const wide of columns) starts.push(starts.at(-1) + wide + parseFloat(style.columnGap));
                 return [...row.querySelectorAll('[data-label]')].map((cell) => {
                   const left = cell.getBoundingClientRect().left + parseFloat(getComputedStyle(cell).paddingLeft);
                   return Math.min(...starts.map((start) => Math.abs(start - left)));
                 })",
            );
            assert!(lefts.len() >= 6 && lefts.iter().all(|off| *off < 0.6), "{path} at {width}: {lefts:?}");
        }
    }
}

everywhere!(a_card_without_actions_has_no_empty_line);
fn a_card_without_actions_has_no_empty_line(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (_ids, _works) = bad_day(&page);
    page.goto("/settings/proxies");
    page.browser.resize(360, 800);
    let below = measured(
        &page,
        "return [...document.querySelectorAll('.stack tbody tr')].map((row) => {
           const cells = [...row.children].filter((cell) => cell.textContent.trim());
           const last = Math.max(...cells.map((cell) => cell.getBoundingClientRect().bottom));
           return row.getBoundingClientRect().bottom - parseFloat(getComputedStyle(row).paddingBottom) - last;
         })",
    );
    assert!(below.len() == 4 && below.iter().all(|height| *height < 1.0), "{below:?}");
}

everywhere!(a_sentence_ends_in_the_line_of_its_last_word);
fn a_sentence_ends_in_the_line_of_its_last_word(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.make("Reader", &["records:read"]);
    let mut wrong = Vec::new();
    for path in ["docs", "settings/keys", "settings/usage", "settings/proxies", "settings/audit", "settings/explain"] {
        page.goto(&format!("/{path}"));
        for width in [320, 360, 375, 390, 414, 768, 1280] {
            page.browser.resize(width, 800);
            // Punctuation after an element that goes into the next line as a whole.
            let found = page.browser.eval(
                "return [...document.querySelectorAll('main p *, main li *')].filter((e) => {
                   const next = e.nextSibling;
                   if (next?.nodeType !== Node.TEXT_NODE || !/^[.,;:)]/.test(next.data) || !e.getClientRects().length) return false;
                   const range = document.createRange();
                   range.setStart(next, 0);
                   range.setEnd(next, 1);
                   return range.getBoundingClientRect().left < [...e.getClientRects()].at(-1).right - 2;
                 }).map((e) => e.parentElement.textContent.slice(0, 100))",
            );
            wrong.extend(found.as_array().into_iter().flatten().map(|text| format!("/{path} at {width}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

everywhere!(what_has_the_focus_is_wholly_in_sight);
fn what_has_the_focus_is_wholly_in_sight(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Reader", &["records:read"]);
    let browser = &page.browser;
    // A window of 1,280 by 900 pixels at 200 %, and one that is as low.
    for (width, path) in [(640, "new"), (640, &*id), (1280, "new"), (1280, &*id)] {
        browser.resize(width, 450);
        page.goto(&format!("/settings/keys/{path}"));
        let mut seen = 0;
        browser.tab_to("#name");
        for _ in 0..12 {
            browser.press(TAB);
            // With its description, and above the buttons that stay in sight.
            let state = browser.eval(
                "const choice = document.activeElement.closest('.choice, .check');
                 if (!choice) return null;
                 const footer = document.querySelector('.footer');
                 const stays = footer && getComputedStyle(footer).position === 'sticky';
                 const box = choice.getBoundingClientRect();
                 return [box.top, (stays ? footer.getBoundingClientRect().top : innerHeight) - box.bottom];",
            );
            let Some(room) = state.as_array() else { continue };
            seen += 1;
            assert!(
                room.iter().all(|room| room.as_f64().is_some_and(|room| room >= 0.0)),
                "{path} at {width}: {room:?} {}",
                browser.focus()
            );
        }
        assert!(seen >= 5, "{path} at {width}: {seen}");
    }
}
