//! Where two brokers first differ in a script, and the shortest script that still shows it.

use crate::allowed;
use crate::player::{Outcome, Player};
use crate::script::{Script, Step};
use std::fmt;

/// The two brokers, the reference first.
pub(crate) struct Pair {
    pub(crate) reference: Player,
    pub(crate) leveret: Player,
}

/// The first step whose outcomes differ.
pub(crate) struct Difference {
    pub(crate) step: Step,
    /// What only one of them said, each line with its place.
    pub(crate) reference: Vec<String>,
    pub(crate) leveret: Vec<String>,
}

/// What came of a script.
pub(crate) enum Verdict {
    Same,
    /// They differ in a way that `COMPATIBILITY.md` lists under this id.
    Listed(&'static str),
    Different(Difference),
}

impl Pair {
    pub(crate) fn judge(&mut self, script: &Script) -> Verdict {
        let reference = self.reference.play(script);
        let leveret = self.leveret.play(script);
        let mut outcomes = reference.iter().zip(&leveret).enumerate();
        let Some((at, (reference, leveret))) = outcomes.find(|(_, (one, other))| one != other)
        else {
            return Verdict::Same;
        };
        let difference = Difference {
            step: script.steps[at].clone(),
            reference: lines_missing(reference, leveret),
            leveret: lines_missing(leveret, reference),
        };
        match allowed::id_of(&difference, &script.steps[..=at]) {
            Some(id) => Verdict::Listed(id),
            None => Verdict::Different(difference),
        }
    }

    /// The script without the steps that the difference doesn't need.
    pub(crate) fn shrink(
        &mut self,
        script: &Script,
        difference: Difference,
    ) -> (Script, Difference) {
        let (mut script, mut difference) = (script.clone(), difference);
        let mut size = script.steps.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < script.steps.len() {
                let mut shorter = script.clone();
                let end = (at + size).min(shorter.steps.len());
                shorter.steps.drain(at..end);
                match self.judge(&shorter) {
                    Verdict::Different(found) if found.is_like(&difference) => {
                        (script, difference) = (shorter, found);
                    }
                    _ => at += size,
                }
            }
            if size == 1 {
                return (script, difference);
            }
            size /= 2;
        }
    }
}

impl Difference {
    /// The reference alone said something with this in it.
    pub(crate) fn reference_says(&self, text: &str) -> bool {
        self.reference.iter().any(|line| line.contains(text))
    }

    /// Leveret alone said something with this in it.
    pub(crate) fn leveret_says(&self, text: &str) -> bool {
        self.leveret.iter().any(|line| line.contains(text))
    }

    /// The step that differs sends this method.
    pub(crate) fn step_is(&self, method: &str) -> bool {
        matches!(&self.step, Step::Send { operation, .. } if operation.method == method)
    }

    /// Both differ in nothing else.
    pub(crate) fn is_about(&self, text: &str) -> bool {
        self.reference
            .iter()
            .chain(&self.leveret)
            .all(|line| line.contains(text))
    }

    /// The same kind of thing went wrong at the same kind of step.
    fn is_like(&self, other: &Self) -> bool {
        self.kind() == other.kind()
    }

    /// What differs, without its particulars: counted under this.
    pub(crate) fn kind(&self) -> String {
        let method = match &self.step {
            Step::Send { operation, .. } => operation.method.clone(),
            Step::Await(_) => "await".to_owned(),
        };
        let words = |lines: &[String]| {
            let mut words: Vec<_> = lines.iter().map(|line| kind_of(line)).collect();
            words.sort();
            words.dedup();
            words.join(", ")
        };
        format!(
            "{method}: [{}] [{}]",
            words(&self.reference),
            words(&self.leveret)
        )
    }
}

/// A line's method and, of a close, its code.
fn kind_of(line: &str) -> String {
    let text = line.split_once(": ").map_or(line, |(_, text)| text);
    if line.starts_with("queue ") {
        return "counts".to_owned();
    }
    let words = if text.contains(".close") { 2 } else { 1 };
    text.split(' ').take(words).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "differs at `{}`", self.step)?;
        let sides = [("rabbitmq", &self.reference), ("leveret ", &self.leveret)];
        for (name, lines) in sides {
            for line in lines {
                writeln!(f, "  {name} {line}")?;
            }
            if lines.is_empty() {
                writeln!(f, "  {name} -")?;
            }
        }
        Ok(())
    }
}

/// Places that say something else in `other`, with all that they say.
fn lines_missing(outcome: &Outcome, other: &Outcome) -> Vec<String> {
    let differ = outcome
        .iter()
        .filter(|(place, lines)| other.get(*place) != Some(lines));
    differ
        .flat_map(|(place, lines)| lines.iter().map(move |line| format!("{place}: {line}")))
        .collect()
}
