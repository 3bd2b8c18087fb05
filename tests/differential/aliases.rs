//! Names that the server makes up, and what scripts and outcomes call them: `$queue1`, `$tag1`, `$reply1`.

use crate::script::Operation;
use crate::value::Value;

#[derive(Default)]
pub(crate) struct Aliases(Vec<(String, String)>);

impl Aliases {
    /// A name of this kind; it keeps the alias that it got first.
    pub(crate) fn learn(&mut self, kind: &str, real: &str) {
        if self.0.iter().any(|(_, known)| known == real) {
            return;
        }
        let stem = format!("${kind}");
        let taken = self.0.iter().filter(|(alias, _)| alias.starts_with(&stem));
        let alias = format!("{stem}{}", taken.count() + 1);
        self.0.push((alias, real.to_owned()));
    }

    pub(crate) fn real(&self, name: &str) -> String {
        let found = self.0.iter().find(|(alias, _)| alias == name);
        found.map_or_else(|| name.to_owned(), |(_, real)| real.clone())
    }

    /// The text with aliases for names.
    pub(crate) fn hide(&self, text: &str) -> String {
        let hide = |text: String, (alias, real): &(String, String)| text.replace(real, alias);
        self.0.iter().fold(text.to_owned(), hide)
    }

    /// An operation of a script, with names for aliases.
    pub(crate) fn fill_in(&self, operation: &mut Operation) {
        for word in &mut operation.words {
            *word = self.real(word);
        }
        for (_, value) in &mut operation.fields {
            if let Value::Text(text) = value
                && text.starts_with(b"$")
            {
                *text = self.real(&String::from_utf8_lossy(text)).into_bytes();
            }
        }
    }
}
