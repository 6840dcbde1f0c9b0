//! Numbers of things in messages, with nouns that agree: `1 key`, `2 keys`.

use std::fmt::{Display, Formatter, Result};

/// A number with its noun.
struct Counted {
    number: u64,
    noun: &'static str,
}

impl Display for Counted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} {}{}", self.number, self.noun, ending(self.number))
    }
}

/// Returns a number with its noun: the singular for 1, the plural for every other number, 0 included. `noun` is the
/// singular of a word whose plural has an `s` more.
pub fn counted(number: u64, noun: &'static str) -> impl Display {
    Counted { number, noun }
}

/// Returns what a noun has behind its singular where there is this number of things: nothing for 1, else an `s`.
pub const fn ending(number: u64) -> &'static str {
    if number == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn a_noun_agrees_with_its_number() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "key").to_string()), ["0 keys", "1 key", "2 keys"]);
        assert_eq!(counted(21, "filter instance").to_string(), "21 filter instances");
        assert_eq!(counted(u64::MAX, "byte").to_string(), format!("{} bytes", u64::MAX));
    }
}
