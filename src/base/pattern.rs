//! Regular expressions for names, as permissions have them. They are matched in linear time, so no name
//! that a client chooses can hold a core up.

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::limits;

/// A regular expression that may match anywhere in a name, as with RabbitMQ (Erlang's `re:run`). Empty,
/// it matches the empty name only.
#[derive(Clone)]
pub struct Pattern(Arc<Regex>);

impl Pattern {
    /// # Errors
    /// What is wrong with it, in a line. Look-around and back-references have no linear time.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { "^$" } else { text };
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .size_limit(limits::PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| last_line(&error.to_string()))?;
        Ok(Self(Arc::new(regex)))
    }

    /// A pattern that matches this name and no other.
    pub fn exactly(name: &str) -> Self {
        let text = format!("^{}$", regex::escape(name));
        Self::parse(&text).expect("a name that is escaped stands for itself")
    }

    /// Whether it matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.0.is_match(name)
    }
}

/// The library draws the place first; the reason comes last.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let pattern = Pattern::parse(pattern).expect("it is one");
        pattern.matches(name.as_bytes())
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_anchored() {
        assert!(matches("der", "orders") && matches(".*", "") && matches(".*", "größe"));
        assert!(matches("^order", "orders") && !matches("^order$", "orders"));
        assert!(!matches("^(amq\\.gen.*|amq\\.default)$", "amq.direct"));
    }

    #[test]
    fn a_name_can_be_meant_exactly() {
        let pattern = Pattern::exactly("a.b(größe");
        assert!(pattern.matches("a.b(größe".as_bytes()));
        for other in ["a.b(größer", "aab(größe", "xa.b(größe", ""] {
            assert!(!pattern.matches(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_empty_pattern_matches_only_the_empty_name() {
        assert!(matches("", "") && !matches("", "q"));
    }

    #[test]
    fn what_takes_more_than_linear_time_or_memory_is_refused_with_the_reason() {
        let error = |text| Pattern::parse(text).expect_err("refused");
        assert_eq!(
            error("^(?!amq)"),
            "look-around, including look-ahead and look-behind, is not supported"
        );
        assert_eq!(error("("), "unclosed group");
        assert!(error("(a{1000}){1000}").contains("exceeds size limit"));
    }
}
