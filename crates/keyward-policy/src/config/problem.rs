//! What is wrong with a configuration, in words for the one who mends it.

use std::fmt;

/// One thing that is wrong, or, from a linter, worth a look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, like `rules[3].require`; empty for the whole.
    pub path: String,
    /// What.
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

/// Everything that is wrong with a configuration, ordered by path. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    pub(super) fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// Sorted, because a serialized Struct comes in any order and every thread should say the same.
    pub(super) fn all(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| natural(&a.path).cmp(&natural(&b.path)).then_with(|| a.message.cmp(&b.message)));
        problems.dedup();
        Self(problems)
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

/// `rules[10]` comes after `rules[9]`.
fn natural(path: &str) -> Vec<(usize, &str)> {
    path.split(['[', ']', '.']).map(|part| (part.parse().unwrap_or(usize::MAX), part)).collect()
}

/// One problem a line.
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
