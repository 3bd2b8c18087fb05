//! What is said of a ratio: whether B is worse than A by more than is allowed, and how sure that is.

use std::fmt;
use std::str::FromStr;

use super::metrics::Metric;
use super::statistics::{ROUNDS_MIN, Ratio};

/// A part of the whole, as `5%`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Percent(f64);

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is surely no worse than is allowed.
    Fine,
    /// It is surely worse than is allowed.
    Regression,
    /// The interval reaches from one to the other: more rounds would tell.
    Inconclusive,
    /// It may be worse, and the same compared with itself may be as well.
    WithinNoise,
    /// There are fewer rounds than anything can be concluded from.
    TooFewRounds,
}

impl Verdict {
    /// `noise`: how far a ratio may be off, if that is known.
    pub(super) fn of(
        metric: Metric,
        ratio: &Ratio,
        noise: Option<f64>,
        rounds: usize,
        allowed: Percent,
    ) -> Self {
        let loss = |ratio: f64| match metric.is_better_when_higher() {
            true => 1.0 - ratio,
            false => ratio - 1.0,
        };
        let (one, other) = (loss(ratio.low), loss(ratio.high));
        let (least, most) = (one.min(other), one.max(other));
        if rounds < ROUNDS_MIN {
            Self::TooFewRounds
        } else if most <= allowed.0 {
            Self::Fine
        } else if least <= allowed.0 {
            Self::Inconclusive
        } else if noise.is_some_and(|noise| loss(ratio.median) <= noise) {
            Self::WithinNoise
        } else {
            Self::Regression
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "ok",
            Self::Regression => "REGRESSION",
            Self::Inconclusive => "inconclusive",
            Self::WithinNoise => "inconclusive: within the noise",
            Self::TooFewRounds => "inconclusive: too few rounds",
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0 * 100.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        match number.parse::<f64>() {
            Ok(percent) if (0.0..1000.0).contains(&percent) => Ok(Self(percent / 100.0)),
            _ => Err(format!("{text:?} is no percentage, such as 5%")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(metric: Metric, low: f64, median: f64, high: f64, noise: f64) -> Verdict {
        let ratio = Ratio { median, low, high };
        Verdict::of(metric, &ratio, Some(noise), 5, Percent(0.05))
    }

    #[test]
    fn only_what_is_surely_worse_is_a_regression() {
        let rate = |low, median, high| verdict(Metric::Received, low, median, high, 0.01);
        assert_eq!(rate(0.80, 0.85, 0.90), Verdict::Regression);
        assert_eq!(rate(0.80, 0.90, 0.97), Verdict::Inconclusive);
        assert_eq!(rate(0.96, 0.98, 1.00), Verdict::Fine);
        assert_eq!(rate(1.20, 1.30, 1.40), Verdict::Fine);
    }

    #[test]
    fn of_latencies_the_lower_ones_are_better() {
        let latency = |low, median, high| verdict(Metric::Delivery99th, low, median, high, 0.01);
        assert_eq!(latency(1.10, 1.15, 1.20), Verdict::Regression);
        assert_eq!(latency(0.90, 1.00, 1.20), Verdict::Inconclusive);
        assert_eq!(latency(0.80, 0.85, 0.90), Verdict::Fine);
    }

    #[test]
    fn what_noise_could_have_done_is_no_regression() {
        let noisy = verdict(Metric::Received, 0.80, 0.85, 0.90, 0.16);
        assert_eq!(noisy, Verdict::WithinNoise);
    }

    #[test]
    fn three_rounds_fail_nobodys_build_and_say_that_nothing_is_well() {
        for median in [0.5, 1.0] {
            let (low, high) = (median, median);
            let ratio = Ratio { median, low, high };
            let verdict = Verdict::of(Metric::Sent, &ratio, None, 3, Percent(0.05));
            assert_eq!(verdict, Verdict::TooFewRounds);
        }
    }

    #[test]
    fn percentages_are_read_as_people_write_them() {
        assert_eq!("5%".parse(), Ok(Percent(0.05)));
        assert_eq!("2.5".parse(), Ok(Percent(0.025)));
        assert!("-5%".parse::<Percent>().is_err());
        assert!("much".parse::<Percent>().is_err());
    }
}
