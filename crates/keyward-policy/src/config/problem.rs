//! What is wrong with a configuration, in words for the person who mends it.

use std::fmt;

/// The limit of problems that are kept. A file that is wrong throughout would otherwise fill the proxy's log.
pub const MAX_PROBLEMS: usize = 100;

/// One thing that is wrong, or, from a linter, worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place, like `rules[3].require`. It is empty for the configuration as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => write!(f, "{} (help: {})", self.message, self.help),
            path => write!(f, "{path}: {} (help: {})", self.message, self.help),
        }
    }
}

/// Collects problems, up to [`MAX_PROBLEMS`].
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    /// The number of those that were not kept.
    more: usize,
}

impl Problems {
    /// Adds a problem.
    pub(super) fn add(&mut self, path: String, message: impl Into<String>, help: impl Into<String>) {
        self.add_texts(path, message.into(), help.into());
    }

    #[cold]
    #[inline(never)]
    fn add_texts(&mut self, path: String, message: String, help: String) {
        if self.kept.len() == MAX_PROBLEMS {
            self.more += 1;
        } else {
            self.kept.push(Problem { path: shortened(path), message: shortened(message), help: shortened(help) });
        }
    }

    /// Returns the value, if nothing was wrong.
    #[inline(never)]
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.kept.is_empty() => Ok(value),
            _ => Err(ConfigErrors::all(self)),
        }
    }
}

/// The limit of bytes in each text of a problem. Texts quote the configuration, whose words may be of any length.
const MAX_TEXT_BYTES: usize = 500;

#[cold]
#[inline(never)]
fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

/// Everything that is wrong with a configuration, ordered by path. It is never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    pub(super) fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// Sorts the problems, because a serialized Struct comes in any order and every thread should say the same.
    fn all(problems: Problems) -> Self {
        // Inserted one by one: the list is short, and the standard sorts would be a tenth of the filter's size.
        let mut sorted: Vec<Problem> = Vec::with_capacity(problems.kept.len() + 1);
        for problem in problems.kept {
            let at = sorted.partition_point(|have| have.order() < problem.order());
            if sorted.get(at) != Some(&problem) {
                sorted.insert(at, problem);
            }
        }
        if problems.more > 0 {
            sorted.push(Problem {
                path: String::new(),
                message: format!("mistakes that are not listed: {}", problems.more),
                help: "mend these first".into(),
            });
        }
        Self(sorted)
    }

    /// The problems. At most [`MAX_PROBLEMS`] are listed; then one more gives the number of the others.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl Problem {
    /// The key to sort by: `rules[10]` comes after `rules[9]`.
    fn order(&self) -> (Vec<(usize, &str)>, &str, &str) {
        let part = |part| (str::parse(part).unwrap_or(usize::MAX), part);
        (self.path.split(['[', ']', '.']).map(part).collect(), &self.message, &self.help)
    }
}

/// Writes one problem a line.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
