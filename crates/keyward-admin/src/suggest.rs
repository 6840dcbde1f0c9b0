//! Suggests the name that was probably meant.

/// Returns the candidate that a mistyped name is nearest to. `None` means that none is near.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the end of a message about a mistyped name: the suggestion, or nothing if no candidate is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["CI Bot", "records:read", "records:write"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("Ci bot"), Some("CI Bot"));
        assert_eq!(near("record:raed"), Some("records:read"));
        assert_eq!(near("Deployment"), None);
        assert_eq!(near(""), None);
    }
}
