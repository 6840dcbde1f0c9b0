//! What is wrong with a configuration, in words for the one who mends it.

use std::fmt;

/// One thing that is wrong, or, from a linter, worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub(super) fn all(problems: Vec<Problem>) -> Self {
        // Inserted one by one: the list is short, and the standard sorts would be a tenth of the filter's size.
        let mut sorted: Vec<Problem> = Vec::with_capacity(problems.len());
        for problem in problems {
            let at = sorted.partition_point(|have| have.order() < problem.order());
            if sorted.get(at) != Some(&problem) {
                sorted.insert(at, problem);
            }
        }
        Self(sorted)
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl Problem {
    /// `rules[10]` comes after `rules[9]`.
    fn order(&self) -> (Vec<(usize, &str)>, &str, &str) {
        let part = |part| (str::parse(part).unwrap_or(usize::MAX), part);
        (self.path.split(['[', ']', '.']).map(part).collect(), &self.message, &self.help)
    }
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
