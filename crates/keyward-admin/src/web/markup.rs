//! Texts as markup.

use super::moment::time_inline;
use keyward_policy::timestamp::Timestamp;

/// Returns a text as markup that shows it as it is.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Returns a message as markup: what is between backticks is code, and times are times.
pub(super) fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(place, part): (usize, &str)| match place % 2 {
        1 => format!("<code>{}</code>", escaped(part)),
        _ => part.split_inclusive(' ').map(word).collect(),
    };
    parts.map(part).collect()
}

/// Returns a word, and what follows it, as markup.
fn word(text: &str) -> String {
    let word = text.trim_end_matches([' ', ',', '.']);
    match Timestamp::parse(word) {
        Ok(at) => format!("{}{}", time_inline(at), escaped(&text[word.len()..])),
        Err(_) => escaped(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_a_message_is_one_that_the_script_can_show() {
        assert_eq!(
            marked("valid until 2026-12-24T11:15:09Z, and it is 2026-11-24T11:15:19.512Z"),
            "valid until <time class=\"inline\" datetime=\"2026-12-24T11:15:09Z\">2026-12-24T11:15:09Z</time>, and it is \
             <time class=\"inline\" datetime=\"2026-11-24T11:15:19Z\">2026-11-24T11:15:19Z</time>"
        );
    }

    #[test]
    fn no_text_is_markup() {
        assert_eq!(marked("reads `/a<b>`, & \"no\" more"), "reads <code>/a&lt;b&gt;</code>, &amp; &quot;no&quot; more");
        // A path of a request may hold a backtick, too.
        assert_eq!(marked("reads `/<a>`/<b>`"), "reads <code>/&lt;a&gt;</code>/&lt;b&gt;<code></code>");
    }
}
