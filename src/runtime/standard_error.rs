//! Standard error, as a log that holds nobody up.
//!
//! It may be a pipe whose reader has stopped, or a terminal after Ctrl-S. A core that waited for it would let
//! all of its clients wait, so a line that can't be written at once is left out; the next one says how many were.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Lines since the last one that was written.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Takes one line with each `write`.
#[derive(Clone, Copy, Debug)]
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr().lock();
        if !has_room(&out) {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        match LEFT_OUT.swap(0, Ordering::Relaxed) {
            0 => out.write_all(line)?,
            // In one piece: there may be room for no more than that.
            count => out.write_all(
                &[
                    format!("({count} lines could not be written)\n").as_bytes(),
                    line,
                ]
                .concat(),
            )?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the next write comes back at once, though perhaps with an error. A pipe that has room has it for a page,
/// which is more than a line.
fn has_room(out: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(out, PollFlags::OUT)];
    !matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
}
