//! What the operator should read in the log. The pure rooms can't write a log, so they leave their
//! lines here and the runtime writes them once a turn.

use super::limits;

/// Lines for the log, since it was last written.
#[derive(Debug, Default)]
pub struct Notices {
    lines: Vec<String>,
    /// How many more there would have been.
    dropped: usize,
}

impl Notices {
    /// Leaves a line. In a flood of them only the first of a turn are kept, and the others counted.
    pub fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < limits::NOTICES_PER_TURN {
            self.lines.push(line());
        } else {
            self.dropped += 1;
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes the lines; the last one tells how many were dropped.
    pub fn take(&mut self) -> impl Iterator<Item = String> + use<> {
        let dropped = std::mem::take(&mut self.dropped);
        let more = (dropped > 0).then(|| format!("{dropped} more such lines were dropped"));
        std::mem::take(&mut self.lines).into_iter().chain(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_kept() {
        let mut notices = Notices::default();
        for number in 0..limits::NOTICES_PER_TURN + 3 {
            notices.add(|| number.to_string());
        }
        let lines: Vec<_> = notices.take().collect();
        assert_eq!(lines.len(), limits::NOTICES_PER_TURN + 1);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("3 more such lines were dropped")
        );
        assert!(notices.is_empty() && notices.take().next().is_none());
    }
}
