//! How the main task lets go of its core: for one pass of glommio's reactor, or until it is woken.
//!
//! glommio polls I/O when no task is runnable. So a task that wakes itself at once (`yield_now`) would
//! run on without its reactor's passing; a task that waits for a timer which is due already lets
//! the reactor pass exactly once. A `Timer` of zero length, though, is ready at its first poll: this one
//! is charged far ahead, then reset.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;

/// Longer than anything that the broker waits for.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The main task's one timer.
pub(crate) struct Nap {
    timer: Timer,
}

impl Nap {
    pub(crate) fn new() -> Self {
        Self {
            timer: Timer::new(FAR),
        }
    }

    /// Lets the reactor pass once: I/O is submitted and collected, other tasks run.
    pub(crate) async fn one_pass(&mut self) {
        self.charge(FAR).await;
        self.timer.reset(Duration::ZERO);
        until_polled_again().await;
    }

    /// Waits until something wakes this task, or `span` has passed.
    pub(crate) async fn until_woken(&mut self, span: Option<Duration>) {
        if self.charge(span.unwrap_or(FAR)).await {
            until_polled_again().await;
        }
    }

    /// Sets the timer; false if it is due already.
    async fn charge(&mut self, span: Duration) -> bool {
        self.timer.reset(span);
        poll_fn(|context| Poll::Ready(Pin::new(&mut self.timer).poll(context).is_pending())).await
    }
}

async fn until_polled_again() {
    let mut polled = false;
    poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
