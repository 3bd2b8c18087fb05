//! The machine's monotonic clock, and the processor time that the generator itself has used.
//!
//! Timestamps travel in message bodies. The raw monotonic clock is shared by all processes of one
//! machine, so a publisher and a consumer may be two runs of the generator.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Monotonic time in nanoseconds, never 0.
#[inline]
pub(crate) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Processor time of all threads of this process, in nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// Processor time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// A monotonic time as the kernel has it.
pub(crate) fn timespec(time_ns: u64) -> Timespec {
    Timespec {
        tv_sec: (time_ns / 1_000_000_000) as i64,
        tv_nsec: (time_ns % 1_000_000_000) as i64,
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
