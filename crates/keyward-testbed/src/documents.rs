//! Blocks of code in the documentation, which tests run as they are printed.

use crate::workspace;

const FENCE: &str = "```";

/// Returns the blocks of one language below a heading of a page, in their order. Commands may have no language: `""`.
/// The heading is given as its line, such as `## Backups`; what belongs to it ends at the next heading of its level or above.
///
/// # Panics
/// Panics when the page has no such heading, or the heading has no such block.
pub fn blocks(page: &str, heading: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace::root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let blocks = find(&text, heading, language);
    assert!(!blocks.is_empty(), "{page} has no block of `{language}` below `{heading}`");
    blocks
}

fn find(text: &str, heading: &str, language: &str) -> Vec<String> {
    let (mut blocks, mut is_below) = (Vec::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix(FENCE) {
            // Inside of a block, a line that begins with `#` is a comment.
            let block: String =
                lines.by_ref().take_while(|line| *line != FENCE).flat_map(|line| [line, "\n"]).collect();
            if is_below && found == language {
                blocks.push(block);
            }
        } else if line == heading {
            is_below = true;
        } else if line.starts_with('#') && level(line) <= level(heading) {
            is_below = false;
        }
    }
    blocks
}

fn level(heading: &str) -> usize {
    heading.chars().take_while(|c| *c == '#').count()
}

#[cfg(test)]
mod tests {
    use super::find;

    const PAGE: &str = "\
# Page
```sh
first
```
## One
```yaml
# A comment.
a: 1
b: 2
```
```sh
second
```
### Below
```yaml
c: 3
```
## Two
```yaml
d: 4
```
";

    #[test]
    fn a_heading_has_the_blocks_up_to_the_next_one_of_its_level() {
        for (heading, language, blocks) in [
            ("# Page", "sh", &["first\n", "second\n"][..]),
            ("## One", "yaml", &["# A comment.\na: 1\nb: 2\n", "c: 3\n"]),
            ("### Below", "yaml", &["c: 3\n"]),
            ("## Two", "yaml", &["d: 4\n"]),
            ("## Two", "sh", &[]),
            ("## Three", "sh", &[]),
        ] {
            assert_eq!(find(PAGE, heading, language), blocks, "{heading}");
        }
    }
}
