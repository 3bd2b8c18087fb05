//! Patterns as policies have them: matched anywhere in the name, in linear time; and the one use of
//! look-ahead that RabbitMQ's own documentation recommends, `^(?!amq\.).*`: names that don't begin so.

use crate::base::{Name, Pattern};

/// Matches a name unless it begins with something else.
#[derive(Clone, Debug)]
pub(super) struct NamePattern {
    not: Option<Pattern>,
    pattern: Pattern,
}

const NOT_AHEAD: &str = "^(?!";

impl NamePattern {
    /// # Errors
    /// What is wrong with it, in a line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some((not, rest)) = split_not_ahead(text) {
            return Ok(Self {
                not: Some(Pattern::parse(&format!("^(?:{not})"))?),
                pattern: Pattern::parse(&format!("^(?:{rest})"))?,
            });
        }
        // In a permission the empty pattern is none; in a policy it matches everything.
        let text = if text.is_empty() { "^" } else { text };
        Ok(Self {
            not: None,
            pattern: Pattern::parse(text)?,
        })
    }

    pub(super) fn matches(&self, name: &Name) -> bool {
        let name = name.as_bytes();
        self.pattern.matches(name) && !self.not.as_ref().is_some_and(|not| not.matches(name))
    }
}

/// What the name must not begin with, and what it must go on with from its start. None if the pattern
/// says anything else.
fn split_not_ahead(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(NOT_AHEAD)?;
    // Of the parenthesis that opens the look-ahead; 0 behind it.
    let mut depth = 1;
    let mut end = None;
    let mut walk = Walk::new(inner);
    while let Some((at, character)) = walk.next_special() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            // An alternative to the look-ahead itself would match without it.
            _ if depth == 0 => return None,
            _ => {}
        }
        if depth == 0 {
            end.get_or_insert(at);
        }
    }
    let end = end?;
    Some((&inner[..end], &inner[end + 1..]))
}

/// Finds parentheses and bars that are neither escaped nor in a class of characters.
struct Walk<'a> {
    characters: std::iter::Peekable<std::str::CharIndices<'a>>,
    in_class: bool,
}

impl<'a> Walk<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            characters: text.char_indices().peekable(),
            in_class: false,
        }
    }

    fn next_special(&mut self) -> Option<(usize, char)> {
        while let Some((at, character)) = self.characters.next() {
            match character {
                '\\' => {
                    self.characters.next();
                }
                '[' if !self.in_class => {
                    self.in_class = true;
                    // A bracket that comes first in a class stands for itself.
                    self.characters.next_if(|(_, next)| *next == '^');
                    self.characters.next_if(|(_, next)| *next == ']');
                }
                ']' => self.in_class = false,
                '(' | ')' | '|' if !self.in_class => return Some((at, character)),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching<'a>(pattern: &str, names: &[&'a str]) -> Vec<&'a str> {
        let pattern = NamePattern::parse(pattern).expect("it is one");
        let matches = |name: &&&str| pattern.matches(&Name::from(**name));
        names.iter().filter(matches).copied().collect()
    }

    #[test]
    fn a_pattern_matches_anywhere_and_the_empty_one_everything() {
        let names = ["a.b", "ba", "c", ""];
        assert_eq!(matching("a", &names), ["a.b", "ba"]);
        assert_eq!(matching("^a", &names), ["a.b"]);
        assert_eq!(matching("", &names), names);
    }

    #[test]
    fn names_that_begin_otherwise_are_what_a_leading_look_ahead_asks_for() {
        let names = ["amq.topic", "amqp", "orders", "a)b", "x|y"];
        assert_eq!(matching(r"^(?!amq\.).*", &names), names[1..]);
        assert_eq!(
            matching(r"^(?!(amq\.|ord)).+", &names),
            ["amqp", "a)b", "x|y"]
        );
        assert_eq!(matching(r"^(?!a[)])(o|x)(r|\|)", &names), ["orders", "x|y"]);
        assert_eq!(
            matching(r"^(?!a\)).*", &names),
            ["amq.topic", "amqp", "orders", "x|y"]
        );
        assert_eq!(matching("^(?!amq)", &names), ["orders", "a)b", "x|y"]);
    }

    #[test]
    fn any_other_look_ahead_is_refused() {
        for pattern in [
            "^(?!a)|b",
            "(?!a)",
            "^x(?=y)",
            "^(?!a(?!b))",
            "^(?!a",
            "^(?!a)b)",
        ] {
            assert!(NamePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
