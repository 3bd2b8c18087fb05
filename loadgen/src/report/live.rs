//! What is printed while something runs: lines, and below them on a terminal a progress bar.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar's steps.
const BAR_STEPS: u64 = 1_000;

/// Where lines for people go.
#[derive(Debug)]
pub(crate) struct Live {
    to_stderr: bool,
    /// Draws nothing where standard error is not a terminal.
    bar: ProgressBar,
}

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    /// From 0 to 1.
    pub(crate) done: f64,
    pub(crate) left_s: f64,
}

impl Live {
    /// With JSON on stdout, lines go to stderr.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            to_stderr: json,
            bar: new_bar(),
        }
    }

    /// Prints a line, above the bar if there is one. Whoever has read enough (`| head`) ends nothing: queues are
    /// still to be deleted.
    pub(crate) fn tell(&self, line: &str) {
        let _ = self.bar.suspend(|| match self.to_stderr {
            true => writeln!(io::stderr(), "{line}"),
            false => writeln!(io::stdout(), "{line}"),
        });
    }

    /// Moves the bar.
    pub(crate) fn progress(&self, progress: Progress, message: &str) {
        let steps = (progress.done.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64;
        let left = left(progress.left_s);
        self.bar.set_message(format!("{left} left  {message}"));
        self.bar.set_position(steps);
    }

    /// Takes the bar away: what was in progress is over.
    pub(crate) fn clear(&mut self) {
        self.bar.finish_and_clear();
        // A finished one draws no more, and one that is reset draws at once.
        self.bar = new_bar();
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:36.cyan/blue} {percent:>3} %  {msg}");
    bar.set_style(style.expect("the template is valid").progress_chars("━╸ "));
    bar
}

impl Progress {
    /// Of what takes `total_s`.
    pub(crate) fn of_time(elapsed_s: f64, total_s: f64) -> Self {
        Self {
            done: elapsed_s / total_s,
            left_s: (total_s - elapsed_s).max(0.0),
        }
    }

    /// Of what has to reach a count, going on as fast as until now.
    pub(crate) fn of_count(elapsed_s: f64, count: u64, total: u64) -> Self {
        let done = count as f64 / total as f64;
        Self {
            done,
            left_s: if done > 0.0 {
                elapsed_s * (1.0 - done).max(0.0) / done
            } else {
                f64::INFINITY
            },
        }
    }
}

fn left(seconds: f64) -> String {
    match seconds {
        ..99.5 => format!("{seconds:.0} s"),
        ..86_400.0 => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("{}:{:02} h", minutes / 60, minutes % 60)
        }
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_the_speed_until_now() {
        assert_eq!(
            Progress::of_time(2.5, 10.0),
            Progress {
                done: 0.25,
                left_s: 7.5
            }
        );
        assert_eq!(
            Progress::of_count(6.0, 75, 100),
            Progress {
                done: 0.75,
                left_s: 2.0
            }
        );
        assert_eq!(left(Progress::of_count(6.0, 0, 100).left_s), "?");
        assert_eq!(
            [left(59.7), left(3_600.0), left(130.0)],
            ["60 s", "1:00 h", "0:02 h"]
        );
    }
}
