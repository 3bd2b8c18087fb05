//! How the main task lets go of its core: for one pass of glommio's reactor, or until it is woken.
//!
//! glommio polls I/O when no task is runnable. So a task that wakes itself at once (`yield_now`) would
//! run on without the reactor's passing; a task that waits for a timer which is due already lets it
//! pass exactly once. A `Timer` of zero length, though, is ready at its first poll: this one is charged
//! far ahead, then reset.
#![allow(unsafe_code)]

use std::future::{Future, poll_fn};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_io::AsyncRead;
use glommio::net::UnixStream;
use glommio::timer::Timer;

/// Longer than anything that the broker waits for.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// What the main task can be woken by, beside its sockets.
pub(crate) struct Nap {
    timer: Timer,
    /// A byte arrives for each wake by another thread.
    bell: UnixStream,
}

impl Nap {
    /// To be made by the main task of a core.
    pub(crate) fn new(bell: std::os::unix::net::UnixStream) -> Self {
        Self {
            timer: Timer::new(FAR),
            // SAFETY: the descriptor is an open socket, and `into_raw_fd` gives up its owner.
            bell: unsafe { UnixStream::from_raw_fd(bell.into_raw_fd()) },
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
        if self.charge(span.unwrap_or(FAR)).await && !self.has_rung().await {
            until_polled_again().await;
        }
    }

    /// Sets the timer; false if it is due already.
    async fn charge(&mut self, span: Duration) -> bool {
        self.timer.reset(span);
        poll_fn(|context| Poll::Ready(Pin::new(&mut self.timer).poll(context).is_pending())).await
    }

    /// Whether the bell has rung since it was last looked at. If not, it is armed.
    async fn has_rung(&mut self) -> bool {
        poll_fn(|context| {
            let mut has_rung = false;
            let mut bytes = [0; 64];
            while let Poll::Ready(Ok(1..)) = Pin::new(&mut self.bell).poll_read(context, &mut bytes)
            {
                has_rung = true;
            }
            Poll::Ready(has_rung)
        })
        .await
    }
}

/// Waits until something wakes the task.
pub(super) async fn until_polled_again() {
    let mut polled = false;
    poll_fn(|_| {
        if std::mem::replace(&mut polled, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
