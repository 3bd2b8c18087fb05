//! Instructions per message: each operation in a process of its own under callgrind, which counts only
//! inside of [`under_the_ruler`], so that no start-up is in the figure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use leveret_rulers::{MESSAGES, Operation};

/// Rounds before those that count.
const WARM_UP: usize = 3;
/// Rounds that count.
const ROUNDS: usize = 5;

/// What a process under callgrind does.
pub(crate) fn run(operation: &Operation) {
    let mut act = operation.prepare();
    for _ in 0..WARM_UP {
        act();
    }
    under_the_ruler(&mut act);
}

/// Callgrind knows it by its name.
#[inline(never)]
fn under_the_ruler(act: &mut dyn FnMut()) {
    for _ in 0..ROUNDS {
        act();
    }
}

/// Instructions per message of the operations of these numbers; as many processes at a time as CPUs.
pub(crate) fn count_all(operations: &[usize], profiles: &Path) -> Result<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let counted: Mutex<Vec<_>> = Mutex::new(operations.iter().map(|_| None).collect());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let at = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(&operation) = operations.get(at)
                {
                    let result = count(operation, profiles);
                    counted.lock().expect("no worker panics with it")[at] = Some(result);
                }
            });
        }
    });
    let counted = counted.into_inner().expect("no worker has panicked");
    counted
        .into_iter()
        .map(|one| one.expect("each was taken by a worker"))
        .collect()
}

fn count(operation: usize, profiles: &Path) -> Result<f64> {
    let own = std::env::current_exe().context("the path of this program")?;
    let profile = profiles.join(format!("callgrind.out.{operation}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*under_the_ruler*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(own)
        .arg(format!("--operation={operation}"))
        // The size of the environment moves the stack.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .context("running valgrind: is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "under valgrind: {said}");
    let profile = std::fs::read_to_string(&profile).context("callgrind's profile")?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: ")?.trim().parse::<u64>().ok());
    let total = total.with_context(|| format!("callgrind counted nothing: {said}"))?;
    ensure!(total > 0, "callgrind didn't find what to count");
    Ok(total as f64 / (ROUNDS * MESSAGES) as f64)
}
