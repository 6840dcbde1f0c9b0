//! Texts as markup.

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

/// Returns a message as markup: what is between backticks is code.
pub(super) fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(place, part): (usize, &str)| match place % 2 {
        1 => format!("<code>{}</code>", escaped(part)),
        _ => escaped(part),
    };
    parts.map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(marked("reads `/a<b>`, & \"no\" more"), "reads <code>/a&lt;b&gt;</code>, &amp; &quot;no&quot; more");
        // A path of a request may hold a backtick, too.
        assert_eq!(marked("reads `/<a>`/<b>`"), "reads <code>/&lt;a&gt;</code>/&lt;b&gt;<code></code>");
    }
}
