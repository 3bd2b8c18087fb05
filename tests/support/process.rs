//! A child process whose output is kept, and that never outlives the tests.
//!
//! Each child has a thread of its own that starts it and waits for it. `PR_SET_PDEATHSIG` counts by thread, and that
//! thread lives exactly as long as the child or the test process does, so `setpriv --pdeathsig KILL` before the child
//! is enough, without `unsafe`.

use super::PATIENCE;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

/// Which pipe a line came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipe {
    Out,
    Err,
}

pub(crate) struct Process {
    pid: u32,
    output: Arc<Output>,
    ended: Mutex<Receiver<ExitStatus>>,
    status: OnceLock<ExitStatus>,
}

#[derive(Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<(Pipe, String)>,
    closed_pipes: usize,
}

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[String]) -> Self {
        let output = Arc::<Output>::default();
        let (tell_pid, pid) = channel();
        let (tell_status, ended) = channel();
        let mut command = guarded(program, arguments);
        let kept = Arc::clone(&output);
        thread::spawn(move || {
            let mut child = command.spawn().expect("setpriv starts the program");
            keep(
                &kept,
                Pipe::Out,
                child.stdout.take().expect("stdout is piped"),
            );
            keep(
                &kept,
                Pipe::Err,
                child.stderr.take().expect("stderr is piped"),
            );
            // Nobody listens any more when the test is over.
            let _ = tell_pid.send(child.id());
            let _ = tell_status.send(child.wait().expect("a child can be waited for"));
        });
        let pid = pid.recv().expect("the program starts");
        Self {
            pid,
            output,
            ended: Mutex::new(ended),
            status: OnceLock::new(),
        }
    }

    /// Waits for a line on stdout that holds `text`.
    pub(crate) fn line_with(&self, text: &str) -> String {
        self.try_line_with(text)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits for a line on stdout that holds `text`, from a program that may not get that far.
    pub(crate) fn try_line_with(&self, text: &str) -> Result<String, String> {
        self.try_line_of(Pipe::Out, text)
    }

    /// The same for a line of the log.
    pub(crate) fn log_line_with(&self, text: &str) -> String {
        self.try_line_of(Pipe::Err, text)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_line_of(&self, of: Pipe, text: &str) -> Result<String, String> {
        let found = self.wait_until(|state| {
            state
                .lines
                .iter()
                .find(|(pipe, line)| *pipe == of && line.contains(text))
                .map(|(_, line)| line.clone())
        });
        found.ok_or_else(|| format!("no line with `{text}` in time; {}", self.tail()))
    }

    /// False once the process has ended.
    pub(crate) fn is_running(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(status) = ended.try_recv() {
            self.status.get_or_init(|| status);
        }
        self.status.get().is_none()
    }

    /// Memory in RAM now, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("Linux tells VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of kB")
    }

    /// Sends a signal by its name, `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -{name} {}",
            self.pid
        );
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&self) -> ExitStatus {
        *self.status.get_or_init(|| {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("still running after {PATIENCE:?}; {}", self.tail()))
        })
    }

    /// All lines of one pipe, once the process has closed both.
    pub(crate) fn all_lines(&self, pipe: Pipe) -> Vec<String> {
        let lines = self.wait_until(|state| {
            let of_pipe = || {
                state
                    .lines
                    .iter()
                    .filter(|(of, _)| *of == pipe)
                    .map(|(_, line)| line.clone())
                    .collect()
            };
            (state.closed_pipes == 2).then(of_pipe)
        });
        lines.unwrap_or_else(|| panic!("pipes still open; {}", self.tail()))
    }

    /// The last lines of both pipes, to be shown when a test fails.
    pub(crate) fn tail(&self) -> String {
        let state = self
            .output
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let from = state.lines.len().saturating_sub(30);
        let lines: Vec<_> = state.lines[from..]
            .iter()
            .map(|(pipe, line)| format!("  {pipe:?}: {line}"))
            .collect();
        format!("the process last said:\n{}", lines.join("\n"))
    }

    /// Waits until `look` finds something, the pipes close, or patience ends.
    fn wait_until<T>(&self, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self
            .output
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = look(&state);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || state.closed_pipes == 2 || left.is_zero() {
                return found;
            }
            state = self
                .output
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.get().is_none() {
            // It may have ended by itself: then there is nothing to kill.
            let _ = Command::new("kill")
                .arg("-KILL")
                .arg(self.pid.to_string())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn guarded(program: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Drains a pipe to its end, so that the child never waits for us.
fn keep(output: &Arc<Output>, pipe: Pipe, source: impl Read + Send + 'static) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            output
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .lines
                .push((pipe, line));
            output.changed.notify_all();
        }
        output
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed_pipes += 1;
        output.changed.notify_all();
    });
}
