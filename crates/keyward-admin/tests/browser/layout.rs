//! Nothing is cut off, printed over something else or too small: at any width, in any font, at any time of day, with the
//! text spacing, the font size and the colours that a reader chooses.

use crate::place::{EVENING_IN_LOS_ANGELES, NEW_YEAR_IN_TOKYO, NOON_IN_BERLIN, Place, everywhere};
use crate::support::{Following, wait_for_states};
use crate::{Options, Page};
use serde_json::{Value, json};

/// What is wrong with the page as it is shown, each in a line.
const WRONG: &str = "
    const shown = (e) => e.getBoundingClientRect().width > 1 && !e.closest('.hidden, .skip, textarea, pre, input, select, svg')
      && !(e.closest('thead') && getComputedStyle(e.closest('thead')).position === 'absolute');
    const wrong = [];
    const note = (what, e) => wrong.push(`${what}: ${e.outerHTML.slice(0, 160)}`);
    for (const e of document.querySelectorAll('main, main *, nav, nav *')) {
      if (!shown(e)) continue;
      if (e.getBoundingClientRect().right > innerWidth + 1) note('right of the window', e);
      if (getComputedStyle(e).display !== 'inline' && e.clientWidth && e.scrollWidth > e.clientWidth + 1) note('spills over', e);
    }
    if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page scrolls sideways');
    return wrong;";

/// WCAG 1.4.12: the spacing that a reader may set.
pub(crate) const SPACED: &str = "
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important }
                       p { margin-bottom: 2em !important }`);
    document.adoptedStyleSheets = [sheet];";

/// A service as it may be on a bad day: keys of every kind, a busy proxy, and one that is out of contact.
pub(crate) fn bad_day(page: &Page) -> (Vec<String>, Vec<Following>) {
    let vm = |node: &str, name: &str| {
        let mut vm = page.service.vm(name);
        vm.node = node.to_owned();
        vm
    };
    let node = "gateway-7d9f8c5b6d-x2x4k.istio-system.eu-central-1";
    let lost = [vm(node, "vm_9f86d081884c7d65").follow(), vm(node, "vm_60303ae22b998861").follow()];
    let works = vec![vm("edge-1", "vm_2c26b46b68ffc68f").follow(), vm("edge-1", "vm_fcde2b2edba56bf4").follow()];
    wait_for_states(&page.service.admin(), (4, 0));
    drop(lost);
    wait_for_states(&page.service.admin(), (2, 2));
    let all = ["records:read", "records:write", "records:delete", "files:read", "files:write"];
    let make = |name: &str, expires_in: &str| {
        let body = json!({"name": name, "permissions": all, "expires_in": expires_in});
        page.service.admin().post("/v1/keys", &body).ok(201)["id"].as_str().unwrap().to_owned()
    };
    let long = "A name that is as long as names may be, with averyverylongwordthatcannotbebrokenanywhereatall_123456";
    let ids = vec![make(long, "90d"), make("Week", "7d"), make("For good", "never"), make("Disabled", "30d")];
    page.service.admin().patch(&format!("/v1/keys/{}", ids[3]), &json!({"disabled": true})).ok(200);
    page.alter(&[
        "UPDATE keys SET expires_at = created_at + 1000 WHERE name = 'Week'",
        "UPDATE keys SET created_at = created_at - 86400000 * 40 WHERE name = 'For good'",
    ]);
    for id in &ids {
        page.use_key(id, &[("records:read", 1_234_567)]);
        page.use_by_day(id, &[(0, 9_999_999, 12), (31, 12, 1_234_567), (89, 123_456_789, 0)]);
    }
    (ids, works)
}

/// An audit log whose last day is before its first one.
const BACKWARDS: &str = "audit?since=2027-03-02&until=2027-03-01";

pub(crate) fn pages(ids: &[String]) -> Vec<String> {
    let mut pages: Vec<String> = ids.iter().take(3).map(|id| format!("/settings/keys/{id}")).collect();
    pages.push(format!("/settings/keys/{}/regenerate", ids[0]));
    pages.extend(["confirm", "forget?vm=vm_9f86d081884c7d65"].map(|form| format!("/settings/proxies/{form}")));
    let others =
        ["keys", "keys?q=nothing", "keys/new", "keys/key_none", "usage", "proxies", "audit", BACKWARDS, "explain"];
    pages.extend(others.iter().map(|page| format!("/settings/{page}")));
    pages.push("/docs".to_owned());
    pages
}

/// What is wrong anywhere, with where.
#[derive(Default)]
struct Wrongs(Vec<String>);

impl Wrongs {
    fn look(&mut self, page: &Page, at: &str) {
        let wrong = page.browser.eval(WRONG);
        let lines = wrong.as_array().into_iter().flatten().filter_map(Value::as_str);
        self.0.extend(lines.map(|line| format!("{at}: {line}")));
    }

    #[track_caller]
    fn assert_none(self) {
        assert!(self.0.is_empty(), "{} are wrong:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn nothing_is_cut_off(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    let mut wrongs = Wrongs::default();
    for path in pages(&ids) {
        page.goto(&path);
        page.browser.eval("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })");
        for spaced in [false, true] {
            if spaced {
                page.browser.eval(SPACED);
            }
            // 640 is a window of 1,280 pixels at 200 %.
            for width in [360, 640, 768, 1024, 1217, 1280, 1440, 1920] {
                page.browser.resize(width, 800);
                wrongs.look(&page, &format!("{path} at {width}, spaced: {spaced}"));
            }
        }
    }
    wrongs.assert_none();
}

#[test]
fn nothing_is_cut_off_at_noon_in_berlin() {
    nothing_is_cut_off(NOON_IN_BERLIN);
}

#[test]
fn nothing_is_cut_off_at_new_year_in_tokyo() {
    nothing_is_cut_off(NEW_YEAR_IN_TOKYO);
}

#[test]
fn nothing_is_cut_off_in_the_evening_in_los_angeles() {
    nothing_is_cut_off(EVENING_IN_LOS_ANGELES);
}

everywhere!(a_large_font_is_large_everywhere);
fn a_large_font_is_large_everywhere(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    let mut wrongs = Wrongs::default();
    page.browser.devtools("Page.setFontSizes", json!({"fontSizes": {"standard": 32, "fixed": 26}}));
    for path in pages(&ids) {
        page.goto(&path);
        if page.browser.is_there("nav a") {
            let size =
                page.browser.eval("return parseFloat(getComputedStyle(document.querySelector('nav a')).fontSize)");
            assert!(size.as_f64().is_some_and(|size| size >= 28.0), "{path}: {size} pixels in the sidebar");
        }
        for width in [360, 768, 1280, 1920] {
            page.browser.resize(width, 800);
            wrongs.look(&page, &format!("{path} at {width} with a font of 32 pixels"));
        }
    }
    wrongs.assert_none();
}

everywhere!(the_cards_before_the_sidebar_are_narrow);
fn the_cards_before_the_sidebar_are_narrow(place: Place) {
    let Some(page) = Page::signed_out(place, Options::default()) else { return };
    let width = || {
        let width = page.browser.eval("return document.querySelector('.sheet, .card').getBoundingClientRect().width");
        width.as_f64().unwrap_or_default()
    };
    page.goto("/sign-in");
    assert!(width() <= 480.0, "{} pixels", width());
    page.sign_in();
    page.goto("/settings/keys/key_none");
    assert!(width() <= 480.0, "{} pixels", width());
}

everywhere!(a_page_is_printed_as_wide_as_the_paper);
fn a_page_is_printed_as_wide_as_the_paper(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    let mut wrongs = Wrongs::default();
    // A4, upright and on its side.
    for width in [718, 1047] {
        page.browser.resize(width, 800);
        page.browser.emulate_media("print", &[]);
        for path in pages(&ids) {
            page.goto(&path);
            let wide = page.browser.eval("return document.querySelector('main').getBoundingClientRect().width");
            let least = if page.browser.is_there(".shell") { f64::from(width) - 1.0 } else { 0.0 };
            assert!(wide.as_f64().is_some_and(|wide| wide >= least), "{path}: {wide} of {width}");
            wrongs.look(&page, &format!("{path} printed at {width}"));
            // Nothing on paper can be pressed.
            let buttons = "return [...document.querySelectorAll('button, .button')].filter((e) => e.getClientRects().length).length";
            assert_eq!(page.browser.eval(buttons), 0, "{path} printed at {width}");
        }
    }
    wrongs.assert_none();
}

everywhere!(what_is_chosen_shows_without_colours);
fn what_is_chosen_shows_without_colours(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.browser.emulate_media("", &[("forced-colors", "active")]);
    let lines = |selector: &str| {
        let script = format!(
            "const style = getComputedStyle(document.querySelector({}));
             return [style.borderLeftStyle, style.borderLeftWidth, style.outlineStyle, style.outlineWidth].join(' ')",
            json!(selector)
        );
        page.browser.eval(&script)
    };
    assert_ne!(lines("nav a[aria-current]"), lines("nav a:not([aria-current])"));
    let id = page.make("Reader", &["records:read"]);
    page.use_by_day(&id, &[(0, 3, 1)]);
    page.goto("/settings/usage");
    let colours = page.browser.eval(
        "const probe = document.createElement('p');
         document.body.append(probe);
         probe.style.setProperty('color', 'CanvasText');
         const text = getComputedStyle(probe).color;
         return [...document.querySelectorAll('.bars rect, .ticks text')].map((e) => getComputedStyle(e).fill === text)",
    );
    let colours = colours.as_array().expect("a list");
    assert!(colours.len() >= 4 && colours.iter().all(|is_text| is_text == true), "{colours:?}");
    page.goto("/settings/keys/new");
    assert_ne!(lines(".choice input:checked + label"), lines(".choice input:not(:checked) + label"));
}

everywhere!(the_focus_is_seen_wherever_it_is);
fn the_focus_is_seen_wherever_it_is(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.goto("/settings/keys/new");
    let browser = &page.browser;
    browser.tab_to("#name");
    let mut seen = 0;
    while !browser.has_focus("main button[type=submit]") {
        browser.press(crate::driver::TAB);
        if !browser.has_focus("main input") {
            continue;
        }
        seen += 1;
        // The ring is around the whole choice.
        let ring = browser.eval(
            "const input = document.activeElement;
             const around = input.closest('.choice')?.querySelector('label') ?? input.closest('.check') ?? input;
             const style = getComputedStyle(around);
             return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2",
        );
        assert_eq!(ring, true, "{}", browser.focus());
    }
    assert!(seen >= 6, "{seen}");
}

everywhere!(what_is_clicked_is_large_enough);
fn what_is_clicked_is_large_enough(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    // WCAG 2.5.8: 24 by 24, but for links inside a sentence. A label and its field are one target.
    let small = "
        return [...document.querySelectorAll('main a, main button, main input:not([type=hidden]), nav a')].filter((e) => {
          const target = e.closest('.choice, .check') ?? e;
          const box = target.getBoundingClientRect();
          const inline = getComputedStyle(e).display === 'inline' && e.parentElement.textContent.trim() !== e.textContent.trim();
          return box.width > 1 && !inline && (box.width < 23.9 || box.height < 23.9);
        }).map((e) => e.outerHTML.slice(0, 160))";
    let mut all = Vec::new();
    for path in pages(&ids) {
        page.goto(&path);
        for width in [360, 1280] {
            page.browser.resize(width, 800);
            let found = page.browser.eval(small);
            all.extend(found.as_array().into_iter().flatten().map(|what| format!("{path} at {width}: {what}")));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    // The description belongs to the target.
    page.goto("/settings/keys/new");
    let about = page.browser.eval(
        "const box = document.querySelector('#about-records\\\\:read').getBoundingClientRect(); return [box.left + 5, box.top + 5]",
    );
    let pixel = |index: usize| about[index].as_f64().unwrap_or_default() as u32;
    page.browser.click_at(pixel(0), pixel(1));
    assert_eq!(page.browser.property("[id='permission-records:read']", "checked"), true);
}

everywhere!(a_frame_that_scrolls_can_be_scrolled_by_keyboard);
fn a_frame_that_scrolls_can_be_scrolled_by_keyboard(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    for path in pages(&ids) {
        page.goto(&path);
        let frames = page.browser.eval(
            "return [...document.querySelectorAll('.table-frame')].map((e) => [e.getAttribute('role'), e.getAttribute('aria-label'),
               e.scrollWidth > e.clientWidth ? e.tabIndex : 0])",
        );
        for frame in frames.as_array().into_iter().flatten() {
            assert_eq!(frame[0], "region", "{path}");
            assert!(frame[1].as_str().is_some_and(|name| !name.is_empty()), "{path}: {frame}");
            assert_eq!(frame[2], json!(0), "{path}");
        }
        let tables = page.browser.eval("return document.querySelectorAll('.table-frame').length");
        assert!(tables != json!(0) || !path.ends_with("audit"), "{path}: {tables}");
    }
}

everywhere!(borders_of_what_is_filled_in_can_be_seen);
fn borders_of_what_is_filled_in_can_be_seen(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.make("Reader", &["records:read"]);
    // WCAG 1.4.11: 3 to 1 against what is beside it.
    let faint = "
        const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const luminance = (colour) => channels(colour).slice(0, 3)
          .map((c) => c / 255).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
          .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
        const ground = (e) => {
          const colour = getComputedStyle(e).backgroundColor;
          return (channels(colour)[3] ?? 1) === 1 || !e.parentElement ? colour : ground(e.parentElement);
        };
        const fields = document.querySelectorAll('.choice label, main select, main textarea, main input:not([type=hidden], [type=checkbox], [type=radio])');
        return [...fields].filter((e) => e.getBoundingClientRect().width > 1).map((e) => {
          const [a, b] = [luminance(getComputedStyle(e).borderTopColor), luminance(ground(e.parentElement))];
          return [e.outerHTML.slice(0, 100), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)];
        })";
    for dark in [false, true] {
        page.browser.set_dark(dark);
        for path in ["keys?status=active", "keys/new", "audit", "explain"] {
            page.goto(&format!("/settings/{path}"));
            let found = page.browser.eval(faint);
            let found = found.as_array().expect("a list");
            assert!(!found.is_empty(), "{path} has no field");
            for field in found {
                assert!(field[1].as_f64().is_some_and(|ratio| ratio >= 3.0), "{path}, dark: {dark}: {field}");
            }
        }
    }
}

/// Returns numbers that a script measures.
pub(crate) fn measured(page: &Page, script: &str) -> Vec<f64> {
    let found = page.browser.eval(script);
    found.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[track_caller]
fn assert_equal(numbers: &[f64], what: &str) {
    assert!(numbers.len() >= 2 && numbers.iter().all(|one| (one - numbers[0]).abs() < 0.6), "{what}: {numbers:?}");
}

everywhere!(what_belongs_in_one_line_is_in_one_line);
fn what_belongs_in_one_line_is_in_one_line(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let id = page.make("Reader", &["records:read"]);
    page.use_by_day(&id, &[(0, 2_433, 64), (31, 12, 14)]);
    let mut vm = page.service.vm("vm_9f86d081884c7d65");
    vm.node = "gateway-7d9f8c5b6d-x2x4k".to_owned();
    let _follows = vm.follow();
    wait_for_states(&page.service.admin(), (1, 0));
    page.goto("/settings/audit");
    page.browser.resize(1440, 900);
    let fields = "[...document.querySelectorAll('.filters select, .filters input, .filters button')].map((e) => e.getBoundingClientRect())";
    assert_equal(&measured(&page, &format!("return {fields}.map((box) => box.bottom)")), "the filters end");
    assert_equal(&measured(&page, &format!("return {fields}.slice(0, 5).map((box) => box.top)")), "the fields begin");
    page.browser.resize(360, 800);
    for (path, css) in [
        ("audit", "#entries time, #entries .id"),
        ("usage", ".strip .muted, .pair, .pair code"),
        ("proxies", ".node h2 .muted, .node th .id"),
    ] {
        page.goto(&format!("/settings/{path}"));
        let lines = measured(
            &page,
            &format!(
                "return [...document.querySelectorAll('{css}')].map((e) => {{
                   const range = document.createRange();
                   range.selectNodeContents(e);
                   const boxes = [...range.getClientRects()];
                   return Math.max(...boxes.map((b) => b.bottom)) - Math.min(...boxes.map((b) => b.top)) < 30 ? 1 : 2;
                 }})"
            ),
        );
        assert!(lines.len() >= 2 && lines.iter().all(|lines| *lines == 1.0), "{path}: {lines:?}");
    }
}

everywhere!(what_is_one_below_the_other_begins_at_one_place);
fn what_is_one_below_the_other_begins_at_one_place(place: Place) {
    let Some(page) = Page::signed_out(place, Options::default()) else { return };
    let lefts = |selectors: &[&str]| {
        let script = format!(
            "return {}.map((css) => {{
               const range = document.createRange();
               range.selectNodeContents(document.querySelector(css));
               return range.getBoundingClientRect().left;
             }})",
            json!(selectors)
        );
        measured(&page, &script)
    };
    for width in [360, 1280] {
        page.browser.resize(width, 800);
        page.goto("/sign-in");
        let shield = "return [document.querySelector('.logo-body'), document.querySelector('h1')].map((e) => e.getBoundingClientRect().left)";
        assert_equal(&measured(&page, shield), "the shield and the heading");
    }
    page.sign_in();
    let _follows = page.service.vm("vm_9f86d081884c7d65").follow();
    wait_for_states(&page.service.admin(), (1, 0));
    page.goto("/settings/proxies");
    for width in [360, 900, 1440] {
        page.browser.resize(width, 800);
        assert_equal(
            &lefts(&[".node h2 .mono", ".node tbody th code"]),
            &format!("a proxy and its instances at {width}"),
        );
    }
    // Further lines begin below the first one, not below what is before it.
    page.browser.resize(360, 800);
    page.goto("/docs");
    let lines = "
        return [...document.querySelectorAll('.call summary')].flatMap((e) => {
          const range = document.createRange();
          range.selectNodeContents(e.querySelector('.muted'));
          const path = e.querySelector('code').getBoundingClientRect();
          return [...range.getClientRects()].filter((box) => box.top > path.bottom - 2).map((box) => box.left - path.left);
        })";
    assert_equal(&measured(&page, lines), "the lines about a call");
}

everywhere!(a_row_of_the_list_is_no_higher_than_it_needs_to_be);
fn a_row_of_the_list_is_no_higher_than_it_needs_to_be(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.make("Reader", &["records:read", "files:read"]);
    for name in ["Old", "A key whose name needs more than one line of the first column"] {
        let id = page.make(name, &["records:read"]);
        page.service.admin().patch(&format!("/v1/keys/{id}"), &json!({"disabled": true})).ok(200);
    }
    page.browser.resize(1440, 900);
    page.goto("/settings/keys");
    let heights = measured(
        &page,
        "return [...document.querySelectorAll('#keys tbody tr')].map((e) => e.getBoundingClientRect().height)",
    );
    assert_eq!(heights.len(), 3);
    assert!(heights[2] < 60.0, "{heights:?}");
    // The state is below the name, however long that is.
    for width in [360, 900, 1440] {
        page.browser.resize(width, 900);
        let gaps = measured(
            &page,
            "return [...document.querySelectorAll('.name + .tag')].map((e) => e.getBoundingClientRect().top - e.previousElementSibling.getBoundingClientRect().bottom)",
        );
        assert_equal(&gaps, "names and states");
        assert!(gaps[0] >= 0.0, "{gaps:?}");
    }
}

everywhere!(the_buttons_of_every_dialog_are_at_its_right);
fn the_buttons_of_every_dialog_are_at_its_right(place: Place) {
    let Some(page) = Page::open(place) else { return };
    let (ids, _works) = bad_day(&page);
    let key = |verb: &str| format!("/settings/keys/{}/{verb}", ids[0]);
    let confirm = "/settings/proxies/confirm".to_owned();
    let forget = "/settings/proxies/forget?vm=vm_9f86d081884c7d65".to_owned();
    let none = "/settings/keys/key_none".to_owned();
    for path in [
        key("delete"),
        key("regenerate"),
        "/settings/keys/new".to_owned(),
        confirm,
        forget,
        none,
        "/settings/x".to_owned(),
    ] {
        page.goto(&path);
        let edges = measured(
            &page,
            "const sheet = document.querySelector('.sheet'), last = [...sheet.querySelectorAll('.buttons > *')].at(-1);
             return [last.getBoundingClientRect().right, sheet.getBoundingClientRect().right - 1 - parseFloat(getComputedStyle(sheet).paddingRight)]",
        );
        assert_equal(&edges, &path);
        // What goes on with it is the last one.
        let last = "return [...document.querySelectorAll('.sheet .buttons > *')].at(-1).matches('.primary, .solid')";
        assert_eq!(page.browser.eval(last), true, "{path}");
    }
    page.browser.click("a.primary");
    page.browser.wait_text("h1", "API Keys");
    page.browser.click(&format!("#delete-{}", ids[0]));
    page.browser.click("dialog button.danger");
    page.browser.wait_text("#dialog-title", "Key deleted");
    let edges = "return [document.querySelector('dialog .buttons a'), document.querySelector('dialog .receipt')].map((e) => e.getBoundingClientRect().right)";
    assert_equal(&measured(&page, edges), "deleted");
}

everywhere!(placeholders_are_not_cut_off);
fn placeholders_are_not_cut_off(place: Place) {
    let catalogue = crate::many::catalogue();
    let settings = [("KEYWARD_PERMISSIONS", catalogue.path().to_str().expect("a path"))];
    let Some(page) = Page::start(place, Options::default(), &settings) else { return };
    page.sign_in();
    page.make("Reader", &["orders:read"]);
    page.browser.resize(360, 800);
    let mut seen = 0;
    for path in ["keys", "keys/new", "audit", "explain"] {
        page.goto(&format!("/settings/{path}"));
        let rooms = page.browser.eval(
            "return [...document.querySelectorAll('main [placeholder]')].map((e) => {
               const style = getComputedStyle(e), pen = document.createElement('canvas').getContext('2d');
               pen.font = style.font;
               const room = e.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
               return [e.placeholder, room - pen.measureText(e.placeholder).width];
             })",
        );
        for room in rooms.as_array().into_iter().flatten() {
            seen += 1;
            assert!(room[1].as_f64().is_some_and(|room| room >= 0.0), "{path}: {room}");
        }
    }
    assert!(seen >= 7, "{seen}");
}

everywhere!(no_lead_ends_with_one_single_word);
fn no_lead_ends_with_one_single_word(place: Place) {
    let Some(page) = Page::open(place) else { return };
    page.make("Reader", &["records:read"]);
    let mut seen = 0;
    for path in ["settings/keys", "settings/usage", "settings/proxies", "settings/audit", "settings/explain", "docs"] {
        page.goto(&format!("/{path}"));
        for width in [360, 1280, 1440, 1920] {
            page.browser.resize(width, 800);
            // Words in the last of several lines.
            let counts = measured(
                &page,
                "return [...document.querySelectorAll('.head .lead')].map((lead) => {
                   const tops = [], walk = document.createTreeWalker(lead, NodeFilter.SHOW_TEXT);
                   for (let node = walk.nextNode(); node; node = walk.nextNode()) {
                     for (const word of node.data.matchAll(/\\S+/g)) {
                       const range = document.createRange();
                       range.setStart(node, word.index);
                       range.setEnd(node, word.index + word[0].length);
                       tops.push(range.getBoundingClientRect().bottom);
                     }
                   }
                   const last = Math.max(...tops);
                   return tops.some((top) => top < last - 12) ? tops.filter((top) => top > last - 12).length : 2;
                 })",
            );
            assert!(counts.iter().all(|words| *words >= 2.0), "/{path} at {width}: {counts:?}");
            seen += counts.len();
        }
    }
    assert!(seen >= 24, "{seen}");
}
