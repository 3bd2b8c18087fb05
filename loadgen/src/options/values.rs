//! Values of options that have a grammar of their own.

use crate::schedule::Step;

/// CPU numbers; a type of its own so that clap doesn't take the option for a repeated one.
#[derive(Clone, Debug)]
pub(super) struct Cores(pub(super) Vec<usize>);

pub(super) fn parse_cores(text: &str) -> Result<Cores, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .map_err(|_| format!("{text:?} is not a CPU number"))
    };
    let mut cores = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?.min(4095)),
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() && !text.is_empty() {
        return Err("an empty range".to_owned());
    }
    Ok(Cores(cores))
}

/// VALUE:SECONDS, as PerfTest's variable options have it, but also with fractions.
pub(super) fn parse_step(text: &str) -> Result<Step, String> {
    let (value, seconds) = text
        .split_once(':')
        .ok_or("VALUE:SECONDS is wanted, such as 1000:60")?;
    let number = |text: &str| {
        let number = text.parse::<f64>().ok();
        number
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| format!("{text:?} is not a number from 0 upwards"))
    };
    let step = Step {
        value: number(value)?,
        seconds: number(seconds)?,
    };
    if step.seconds < 0.001 {
        return Err("a step must last at least a millisecond".to_owned());
    }
    Ok(step)
}
