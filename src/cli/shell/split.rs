//! Where one statement ends and the next begins.
//!
//! SQLite itself decides: `;` inside a string, a comment or a trigger's body ends nothing.

use std::ffi::CString;

/// The complete statements at the beginning of `text`, and what is left.
pub fn split(text: &str) -> (Vec<&str>, &str) {
    let mut statements = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(';') {
        let candidate = &text[start..=at];
        if is_complete(candidate) {
            if !is_blank(candidate.trim_end_matches(';')) {
                statements.push(candidate.trim());
            }
            start = at + 1;
        }
    }
    (statements, &text[start..])
}

fn is_complete(text: &str) -> bool {
    let Ok(text) = CString::new(text) else { return false };
    // SAFETY: the string ends with a zero and lives until the call returns.
    unsafe { rusqlite::ffi::sqlite3_complete(text.as_ptr()) == 1 }
}

/// Whether there is nothing but space and comments.
pub fn is_blank(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return false;
        }
        .trim_start();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_sqlite_says() {
        let trigger =
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET x = 1; DELETE FROM b; END;";
        for (text, parts, rest) in [
            ("SELECT 1; SELECT 2;", vec!["SELECT 1;", "SELECT 2;"], ""),
            ("SELECT ';'; SEL", vec!["SELECT ';';"], " SEL"),
            ("SELECT 1 -- not; here\n;", vec!["SELECT 1 -- not; here\n;"], ""),
            (trigger, vec![trigger], ""),
            (";; ;-- nothing\n;", vec![], ""),
            ("SELECT 'ö;", vec![], "SELECT 'ö;"),
        ] {
            assert_eq!(split(text), (parts, rest), "{text}");
        }
    }

    #[test]
    fn comments_alone_are_blank() {
        for text in ["", "  \n", "-- a", "/* b */ -- c\n", "/* open"] {
            assert!(is_blank(text), "{text:?}");
        }
        assert!(!is_blank("/* a */ x"));
    }
}
