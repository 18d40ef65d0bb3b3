//! Regular expressions of schemas: Go's syntax, in linear time and bounded memory.
//!
//! Source: Go's `regexp/syntax`. Its `\d`, `\w`, `\s` and `\b` mean ASCII, and in its classes `[`, `&&`, `--` and `~~` mean
//! themselves; the `regex` crate reads both otherwise, so the text is rewritten.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Most memory that one compiled expression may take.
const MAX_COMPILED: usize = 512 * 1024;
/// Longest expression that is looked at.
const MAX_TEXT: usize = 16 * 1024;

/// An expression, compiled when it is first used.
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// The expression `text`.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// The expression as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it occurs in `value`. One that cannot be compiled matches nothing: the definition was refused for it.
    pub fn matches(&self, value: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(value))
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// Compiles an expression of Go's syntax.
///
/// # Errors
/// What is wrong with it.
pub fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("longer than {MAX_TEXT} bytes"));
    }
    RegexBuilder::new(&rewrite(text))
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(100)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "its compiled form is too large".to_owned(),
            // The first lines draw the expression; the last one says what is wrong with it.
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
}

fn rewrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = chars.next() {
        let first = std::mem::take(&mut class_start);
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\x0c\r ]"),
                Some('S') => out.push_str(r"[^\t\n\x0c\r ]"),
                Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                // Go knows escaped slashes and quotes; so does any reader.
                Some(c @ ('/' | '"' | '\'' | '`' | ':' | ',' | ';' | '=' | '@' | '%' | '!' | '_')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
            }
            // `[]a]` is a class of a bracket and an `a`.
            ']' if in_class && first => out.push_str(r"\]"),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str(r"\["),
            '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_to_go() {
        for (text, matching, other) in [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", "* * *"),
            (r"^\d$", "7", "٣"),
            (r"^[\w.-]+$", "a_1.b-c", "é"),
            (r"^[[]a$", "[a", "a"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]+$", "bc", "]"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[:alpha:]]+$", "abc", "1"),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", "a-"),
            (r"^\/x$", "/x", "x"),
            (r"b", "abc", "acd"),
        ] {
            let pattern = Pattern::new(text);
            assert!(pattern.matches(matching), "{text} {matching} {}", rewrite(text));
            assert!(!pattern.matches(other), "{text} {other}");
        }
    }

    #[test]
    fn what_is_too_large_or_wrong_is_said() {
        assert!(
            compile("(").unwrap_err().contains("unclosed group"),
            "{:?}",
            compile("(")
        );
        assert!(compile("((a{1000}){1000}){1000}").is_err());
        assert!(compile(&"a".repeat(MAX_TEXT + 1)).is_err());
        assert!(!Pattern::new("(").matches(""));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]\\\\^&~:dwsb(){}*+a-z-]{0,20}|\\PC{0,20}", value in "\\PC{0,10}") {
            Pattern::new(&text).matches(&value);
        }
    }
}
