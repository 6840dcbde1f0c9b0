//! The permissions of a key: a set of machine names like `records:read`.

/// A set of permission names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PermissionSet {
    sorted: Box<[Box<str>]>,
}

impl PermissionSet {
    /// Whether `permission` is granted. The empty set grants nothing.
    #[inline]
    pub fn contains(&self, permission: &str) -> bool {
        // Sets are small, and comparing lengths first beats a binary search on them.
        if self.sorted.len() <= 8 {
            return self.sorted.iter().any(|have| **have == *permission);
        }
        self.sorted.binary_search_by(|have| (**have).cmp(permission)).is_ok()
    }

    /// Returns the names, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.sorted.iter().map(AsRef::as_ref)
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

impl<S: AsRef<str>> FromIterator<S> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut sorted: Vec<Box<str>> = Vec::new();
        for name in names {
            if let Err(at) = sorted.binary_search_by(|have| (**have).cmp(name.as_ref())) {
                sorted.insert(at, name.as_ref().into());
            }
        }
        Self { sorted: sorted.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_exactly_what_was_put_in() {
        for count in [0, 1, 8, 9, 40] {
            let set: PermissionSet = (0..count).rev().map(|n| format!("p{n}")).collect();
            assert_eq!(set.len(), count);
            assert!((0..count).all(|n| set.contains(&format!("p{n}"))));
            assert!(!set.contains("p") && !set.contains("p999") && !set.contains(""));
        }
        assert_eq!(["b", "a", "b"].iter().collect::<PermissionSet>().iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
