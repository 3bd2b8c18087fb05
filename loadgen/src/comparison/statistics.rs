//! What a handful of noisy measurements says: medians, bootstrap intervals, and the noise of a machine
//! learnt from comparing a thing with itself. Seeded, so that the same numbers give the same answer.
//!
//! The bootstrap (Efron 1979) draws as many values as there are, with repetition, again and again; how the
//! median of these scatters is how far the median at hand may be off.

use fastrand::Rng;

/// How often values are drawn anew.
const RESAMPLES: usize = 2_000;
const SEED: u64 = 5;
/// The part of all medians that an interval holds.
const CONFIDENCE: f64 = 0.95;
/// The part of all comparisons of a thing with itself that stay within the noise band.
const WITHIN_NOISE: f64 = 0.99;
/// With fewer rounds, nothing is certain enough to fail anybody's build: the median of all rounds to come lies
/// outside of all seen ones with a probability of 2 to the power of 1 - n, which is 1 in 16 here.
pub(crate) const ROUNDS_MIN: usize = 5;

/// How much B is of A, and between which bounds that surely lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// One block of an alternating comparison, measured in the order A B B A: what drifts slowly hits both alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) a: [f64; 2],
    pub(crate) b: [f64; 2],
}

/// What all blocks say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Paired {
    pub(crate) ratio: Ratio,
    /// Had A been compared with itself in as many blocks, 99 of 100 ratios would be off by no more than this.
    pub(crate) noise: f64,
}

/// Of an even number the mean of the two in the middle; of none, not a number.
pub(crate) fn median(values: &[f64]) -> f64 {
    median_of(&mut values.to_vec())
}

fn median_of(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The ratio of the medians of rounds that have nothing to do with each other.
pub(crate) fn ratio_of_medians(a: &[f64], b: &[f64]) -> Ratio {
    let mut rng = Rng::with_seed(SEED);
    let mut drawn = Vec::new();
    let mut draw = |rng: &mut Rng, values: &[f64]| {
        drawn.clear();
        drawn.extend(values.iter().map(|_| values[rng.usize(..values.len())]));
        median_of(&mut drawn)
    };
    let resampled = (0..RESAMPLES).map(|_| draw(&mut rng, b) / draw(&mut rng, a));
    Ratio::new(median(b) / median(a), resampled.collect())
}

/// The median of the blocks' ratios.
pub(crate) fn paired(blocks: &[Block]) -> Paired {
    let mut rng = Rng::with_seed(SEED);
    let changes: Vec<f64> = blocks.iter().map(Block::change).collect();
    let itself: Vec<f64> = blocks.iter().flat_map(Block::change_of_itself).collect();
    let mut drawn = Vec::new();
    let mut resampled = Vec::new();
    let mut nothing = Vec::new();
    for _ in 0..RESAMPLES {
        drawn.clear();
        drawn.extend(changes.iter().map(|_| changes[rng.usize(..changes.len())]));
        resampled.push(median_of(&mut drawn).exp());
        drawn.clear();
        // Which of the two came first is chance, so either sign is as likely.
        drawn.extend(changes.iter().map(|_| {
            let change = itself[rng.usize(..itself.len())];
            if rng.bool() { change } else { -change }
        }));
        nothing.push(median_of(&mut drawn).abs());
    }
    nothing.sort_unstable_by(f64::total_cmp);
    Paired {
        ratio: Ratio::new(median(&changes).exp(), resampled),
        noise: quantile(&nothing, WITHIN_NOISE).exp_m1(),
    }
}

impl Ratio {
    fn new(median: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_unstable_by(f64::total_cmp);
        Self {
            median,
            low: quantile(&resampled, (1.0 - CONFIDENCE) / 2.0),
            high: quantile(&resampled, f64::midpoint(1.0, CONFIDENCE)),
        }
    }
}

impl Block {
    /// The logarithm of how much B is of A.
    fn change(&self) -> f64 {
        (self.b[0].ln() + self.b[1].ln() - self.a[0].ln() - self.a[1].ln()) / 2.0
    }

    /// What the two runs of each say of noise, scaled to that of [`Block::change`]: the difference of two runs
    /// scatters by the square root of 2 more than half of the difference of two sums.
    fn change_of_itself(&self) -> [f64; 2] {
        [self.a, self.b].map(|[first, second]| (second.ln() - first.ln()) / 2_f64.sqrt())
    }
}

/// Of sorted values.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (part * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose runs scatter like a normal distribution of that width, and of which every tenth is
    /// disturbed by a neighbour and loses up to 30 %.
    struct Machine {
        rng: Rng,
        width: f64,
    }

    impl Machine {
        fn new(seed: u64, width: f64) -> Self {
            let rng = Rng::with_seed(seed);
            Self { rng, width }
        }

        fn run(&mut self, rate: f64) -> f64 {
            // Irwin and Hall: twelve even distributions make a normal one.
            let normal: f64 = (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0;
            let disturbed = if self.rng.u8(..10) == 0 {
                1.0 - 0.3 * self.rng.f64()
            } else {
                1.0
            };
            rate * (1.0 + self.width * normal) * disturbed
        }

        fn rounds(&mut self, rate: f64, count: usize) -> Vec<f64> {
            (0..count).map(|_| self.run(rate)).collect()
        }

        fn blocks(&mut self, a: f64, b: f64, count: usize) -> Vec<Block> {
            let block = |_| {
                let (first, second, third) = (self.run(a), self.run(b), self.run(b));
                Block {
                    a: [first, self.run(a)],
                    b: [second, third],
                }
            };
            (0..count).map(block).collect()
        }
    }

    /// As `ab` judges with a limit of 0.
    fn is_worse(paired: &Paired) -> bool {
        paired.ratio.high < 1.0 && 1.0 - paired.ratio.median > paired.noise
    }

    #[test]
    fn medians_are_medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn without_noise_the_ratio_is_exact() {
        let ratio = ratio_of_medians(&[100.0; 5], &[90.0; 5]);
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.9, 0.9, 0.9));
        let block = Block {
            a: [100.0; 2],
            b: [90.0; 2],
        };
        let paired = paired(&[block; 5]);
        assert!((paired.ratio.median - 0.9).abs() < 1e-12);
        assert_eq!(paired.noise, 0.0);
    }

    #[test]
    fn the_same_numbers_give_the_same_answer() {
        let mut machine = Machine::new(1, 0.05);
        let blocks = machine.blocks(100.0, 95.0, 7);
        assert_eq!(paired(&blocks), paired(&blocks));
    }

    #[test]
    fn the_interval_holds_the_true_ratio_about_as_often_as_it_says() {
        let mut machine = Machine::new(2, 0.03);
        let trials = 300;
        let held = (0..trials).filter(|_| {
            let ratio = ratio_of_medians(&machine.rounds(100.0, 9), &machine.rounds(90.0, 9));
            (ratio.low..=ratio.high).contains(&0.9)
        });
        let held = held.count() as f64 / f64::from(trials);
        assert!((0.90..=0.995).contains(&held), "{held}");
    }

    #[test]
    fn a_drift_within_a_block_is_no_difference() {
        let drifting = |number: usize| {
            let at = |slot: usize| 100.0 - (4 * number + slot) as f64;
            Block {
                a: [at(0), at(3)],
                b: [at(1), at(2)],
            }
        };
        let blocks: Vec<Block> = (0..7).map(drifting).collect();
        let paired = paired(&blocks);
        assert!((paired.ratio.median - 1.0).abs() < 0.001, "{paired:?}");
        assert!(!is_worse(&paired), "{paired:?}");
    }

    #[test]
    fn a_thing_compared_with_itself_is_called_worse_once_in_a_hundred_times_at_most() {
        for (seed, width) in [(3, 0.01), (4, 0.05), (5, 0.15)] {
            let mut machine = Machine::new(seed, width);
            let trials = 500;
            let flagged = (0..trials)
                .filter(|_| is_worse(&paired(&machine.blocks(100.0, 100.0, ROUNDS_MIN))))
                .count();
            assert!(flagged <= trials / 100, "{flagged} of {trials} at {width}");
        }
    }

    #[test]
    fn unpaired_rounds_of_a_thing_and_itself_differ_by_five_percent_once_in_twenty_times_at_most() {
        for (seed, width) in [(7, 0.01), (8, 0.05), (9, 0.15)] {
            let mut machine = Machine::new(seed, width);
            let trials = 300;
            let flagged = (0..trials).filter(|_| {
                let before = machine.rounds(100.0, ROUNDS_MIN);
                ratio_of_medians(&before, &machine.rounds(100.0, ROUNDS_MIN)).high < 0.95
            });
            let flagged = flagged.count();
            assert!(flagged <= trials / 20, "{flagged} of {trials} at {width}");
        }
    }

    #[test]
    fn what_is_slower_than_the_noise_is_found() {
        let mut machine = Machine::new(6, 0.02);
        let trials = 200;
        let found = (0..trials)
            .filter(|_| is_worse(&paired(&machine.blocks(100.0, 85.0, 8))))
            .count();
        assert!(found * 100 >= trials * 95, "{found} of {trials}");
    }
}
