//! Which CPU each core of the broker is pinned to.

use crate::base::limits::CORES_MAX;
use crate::config::Cores;

use super::StartError;

/// One entry per core of the broker: the number of its CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Placement {
    /// Never empty.
    pub(crate) cpus: Vec<usize>,
    /// Whether each core has a CPU to itself.
    pub(crate) exclusive: bool,
}

/// Decides on the basis of the CPUs that this process may use.
pub(crate) fn place(cores: &Cores) -> Result<Placement, StartError> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let allowed: Vec<usize> = allowed.into_iter().map(|core| core.id).collect();
    place_on(&allowed, cores)
}

fn place_on(allowed: &[usize], cores: &Cores) -> Result<Placement, StartError> {
    if allowed.is_empty() {
        return Err(StartError::NoCpu);
    }
    let cpus: Vec<usize> = match cores {
        Cores::All => {
            let cores_max = usize::from(CORES_MAX);
            if allowed.len() > cores_max {
                tracing::warn!(
                    "{} CPUs are there; the first {cores_max} are used, which is the most",
                    allowed.len()
                );
            }
            allowed.iter().copied().take(cores_max).collect()
        }
        Cores::Count(count) => allowed
            .iter()
            .copied()
            .cycle()
            .take(usize::from(*count))
            .collect(),
        Cores::Cpus(cpus) => {
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(StartError::UnknownCpu {
                    cpu: *cpu,
                    allowed: list(allowed),
                });
            }
            cpus.clone()
        }
    };
    let mut distinct = cpus.clone();
    distinct.sort_unstable();
    distinct.dedup();
    Ok(Placement {
        exclusive: distinct.len() == cpus.len(),
        cpus,
    })
}

fn list(cpus: &[usize]) -> String {
    cpus.iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// To be called by a thread that a core has started: it inherits the core's CPU, which the core is to have to itself.
/// The main thread may use all that the process may. If it can't leave, it disturbs the core now and then.
pub(super) fn leave_the_core() {
    if let Ok(cpus) = rustix::thread::sched_getaffinity(Some(rustix::process::getpid())) {
        let _ = rustix::thread::sched_setaffinity(None, &cpus);
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    fn cpus(allowed: &[usize], cores: &Cores) -> (Vec<usize>, bool) {
        let placement = place_on(allowed, cores).expect("it can be placed");
        (placement.cpus, placement.exclusive)
    }

    #[test]
    fn by_default_every_allowed_cpu_gets_a_core() {
        assert_eq!(cpus(&[1, 3], &Cores::All), (vec![1, 3], true));
    }

    #[test]
    fn by_default_no_more_cpus_are_used_than_there_can_be_cores() {
        let allowed: Vec<usize> = (10..210).collect();
        assert_eq!(cpus(&allowed, &Cores::All), ((10..74).collect(), true));
    }

    #[test]
    fn a_count_takes_the_first_allowed_cpus() {
        assert_eq!(cpus(&[2, 3, 5], &Cores::Count(2)), (vec![2, 3], true));
    }

    #[test]
    fn more_cores_than_cpus_share_them_in_turn() {
        assert_eq!(cpus(&[0, 1], &Cores::Count(4)), (vec![0, 1, 0, 1], false));
    }

    #[test]
    fn a_list_names_cpus() {
        assert_eq!(
            cpus(&[0, 1, 2, 3], &Cores::Cpus(vec![3, 1])),
            (vec![3, 1], true)
        );
    }

    #[test]
    fn a_cpu_that_the_process_may_not_use_is_refused_with_the_ones_it_may() {
        let error = place_on(&[0, 1], &Cores::Cpus(vec![0, 7])).expect_err("CPU 7 isn't allowed");
        assert_eq!(
            error.to_string(),
            "CPU 7 of --cores is not available: this process may use 0,1"
        );
    }
}
