//! What people read, kept to a length.

/// As much of the text as has room in so many bytes, to the end of a character.
pub(crate) fn shortened(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev();
    let end = end.into_iter().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_character_is_taken_whole_or_not_at_all() {
        let cases = [
            ("", 3, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc"),
            ("aü", 2, "a"),
            ("ü", 0, ""),
        ];
        for (text, longest, expected) in cases {
            assert_eq!(shortened(text, longest), expected, "{text}");
        }
    }
}
