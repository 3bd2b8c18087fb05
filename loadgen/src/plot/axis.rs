//! Scales: where a value lies between 0 and 1, and which round values get a tick.

/// The most ticks with a label on an axis.
const TICKS_MAX: usize = 7;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// 1.5 M
    PerSecond,
    /// Given in microseconds: 250 µs, 1.5 ms
    Time,
    Seconds,
    /// Given as 1 / (1 - quantile): 99.9 %
    Percentile,
}

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// One axis with its range.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) unit: Unit,
    scale: Scale,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// From 0 to a round value that holds all of these.
    pub(super) fn linear(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_step(most / 5.0);
        let to = (most / step - 1e-9).ceil() * step;
        Self {
            unit,
            scale: Scale::Linear,
            from: 0.0,
            to,
            step,
        }
    }

    /// From 0 to exactly the largest value: for time, where a rounded end would look like a lull.
    pub(super) fn exact(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(1e-9);
        Self {
            unit,
            scale: Scale::Linear,
            from: 0.0,
            to: most,
            step: round_step(most / 8.0),
        }
    }

    /// From one power of ten to another, or from one of 1, 2, 5 times such to another.
    pub(super) fn log(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), value| {
                (least.min(value), most.max(value))
            });
        if most == 0.0 {
            return Self::log(unit, [1.0, 10.0].into_iter());
        }
        let from = round_step_below(least);
        let to = round_step(most).max(from * 2.0);
        Self {
            unit,
            scale: Scale::Log,
            from,
            to,
            step: 0.0,
        }
    }

    /// Whole decades from 0 % on, as HdrHistogram's plots have them.
    pub(super) fn percentile(count: u64) -> Self {
        Self {
            unit: Unit::Percentile,
            scale: Scale::Log,
            from: 1.0,
            to: (count as f64).clamp(10.0, 1e6),
            step: 0.0,
        }
    }

    /// 0 at the axis's start, 1 at its end.
    pub(super) fn position(&self, value: f64) -> f64 {
        let position = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        position.clamp(0.0, 1.0)
    }

    /// Values with a label.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.scale == Scale::Linear {
            let count = (self.to / self.step + 1e-9) as usize;
            return (0..=count).map(|tick| tick as f64 * self.step).collect();
        }
        let all = self.round_values(&[1.0, 2.0, 5.0]);
        if all.len() <= TICKS_MAX && self.unit != Unit::Percentile {
            return all;
        }
        let decades = self.round_values(&[1.0]);
        let every = decades.len().div_ceil(TICKS_MAX);
        decades.into_iter().step_by(every).collect()
    }

    /// Values with a faint line only.
    pub(super) fn minor_ticks(&self) -> Vec<f64> {
        match (self.scale, self.unit) {
            (Scale::Linear, _) | (_, Unit::Percentile) => Vec::new(),
            (Scale::Log, _) => self.round_values(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        }
    }

    fn round_values(&self, digits: &[f64]) -> Vec<f64> {
        let first = self.from.log10().floor() as i32;
        let last = self.to.log10().ceil() as i32;
        let values = (first..=last).flat_map(|power| {
            let decade = 10f64.powi(power);
            digits.iter().map(move |digit| digit * decade)
        });
        let (from, to) = (self.from * (1.0 - 1e-9), self.to * (1.0 + 1e-9));
        values.filter(|value| (from..=to).contains(value)).collect()
    }

    /// A tick's label.
    pub(super) fn label(&self, value: f64) -> String {
        match self.unit {
            Unit::PerSecond => per_second(value),
            Unit::Time => time(value),
            Unit::Seconds => format!("{} s", short(value)),
            Unit::Percentile => {
                let decimals = (value.log10().round() as i32 - 2).max(0) as usize;
                format!("{:.decimals$} %", (1.0 - 1.0 / value) * 100.0)
            }
        }
    }
}

/// A rate: 1.5 M.
pub(super) fn per_second(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", short(value / 1e6)),
        1e3.. => format!("{} k", short(value / 1e3)),
        _ => short(value),
    }
}

/// Microseconds in the unit that fits: 1.5 ms.
pub(super) fn time(value_us: f64) -> String {
    match value_us {
        1e6.. => format!("{} s", short(value_us / 1e6)),
        1e3.. => format!("{} ms", short(value_us / 1e3)),
        0.0 => "0".to_owned(),
        ..1.0 => format!("{} ns", short(value_us * 1e3)),
        _ => format!("{} µs", short(value_us)),
    }
}

/// Three digits, and no zeros behind the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The smallest of 1, 2 or 5 times a power of ten that is not below.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = digits
        .into_iter()
        .find(|digit| digit * decade >= least * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * decade
}

/// The largest of 1, 2 or 5 times a power of ten that is not above.
fn round_step_below(most: f64) -> f64 {
    let decade = 10f64.powf(most.log10().floor());
    let digits = [5.0, 2.0, 1.0];
    let digit = digits
        .into_iter()
        .find(|digit| digit * decade <= most * (1.0 + 1e-9));
    digit.unwrap_or(1.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        let ticks = axis.ticks();
        ticks.into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn a_linear_axis_ends_at_a_round_value() {
        let axis = Axis::linear(Unit::PerSecond, [3_220_000.0, 12.0].into_iter());
        assert_eq!(labels(&axis), ["0", "1 M", "2 M", "3 M", "4 M"]);
        assert_eq!(axis.position(2e6), 0.5);
        let empty = Axis::linear(Unit::PerSecond, std::iter::empty());
        assert_eq!(empty.ticks().last(), Some(&1.0));
    }

    #[test]
    fn a_time_axis_ends_with_the_data() {
        let axis = Axis::exact(Unit::Seconds, [9.5].into_iter());
        assert_eq!(labels(&axis), ["0 s", "2 s", "4 s", "6 s", "8 s"]);
        assert_eq!(axis.position(9.5), 1.0);
    }

    #[test]
    fn a_log_axis_has_decades_or_finer_ticks() {
        let narrow = Axis::log(Unit::Time, [18.0, 350.0].into_iter());
        assert_eq!(
            labels(&narrow),
            ["10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs"]
        );
        let wide = Axis::log(Unit::Time, [12.0, 2.1e6].into_iter());
        let decades = ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"];
        assert_eq!(labels(&wide), decades);
        assert!((wide.position(10.0), wide.position(0.0)) == (0.0, 0.0));
        assert_eq!(
            labels(&Axis::log(Unit::Time, [3.0].into_iter())),
            ["2 µs", "5 µs"]
        );
    }

    #[test]
    fn percentiles_stand_at_their_nines() {
        let axis = Axis::percentile(50_000);
        assert_eq!(labels(&axis), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
