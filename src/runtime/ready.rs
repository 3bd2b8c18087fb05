//! Which sockets glommio has reported since the turn last looked.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A socket's place in the core's table, and which of its successive tenants is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// The session's index, which is the socket's too.
    pub(crate) index: u32,
    /// Counts the connections of this core.
    pub(crate) tenant: u64,
}

/// The list. Its lock is never contended: both sides are the core's own thread. It is there because
/// a [`Waker`] must be `Sync`.
pub(crate) struct ReadyList {
    tokens: Mutex<Vec<Token>>,
    main_task: Waker,
}

impl ReadyList {
    /// An empty list, which wakes the core's main task.
    pub(crate) fn new(main_task: Waker) -> Arc<Self> {
        Arc::new(Self {
            tokens: Mutex::default(),
            main_task,
        })
    }

    /// Moves what was reported to the end of `tokens`.
    pub(crate) fn take(&self, tokens: &mut Vec<Token>) {
        let mut reported = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.append(&mut reported);
    }

    /// What glommio is given to report that the socket is readable or writable.
    ///
    /// It isn't a task's waker: a task per socket would only do the same with more memory, and one
    /// task's waker for all sockets fails, since glommio counts the wakers of a task in 16 bits.
    pub(crate) fn waker(self: &Arc<Self>, token: Token) -> Waker {
        Waker::from(Arc::new(Report {
            token,
            list: Arc::clone(self),
        }))
    }
}

struct Report {
    token: Token,
    list: Arc<ReadyList>,
}

impl Wake for Report {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut tokens = self
            .list
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tokens.push(self.token);
        drop(tokens);
        self.list.main_task.wake_by_ref();
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_socket_once_for_each_wake() {
        let list = ReadyList::new(Waker::noop().clone());
        let [first, second] = [1, 2].map(|index| Token { index, tenant: 7 });
        list.waker(second).wake();
        list.waker(first).wake_by_ref();
        let mut tokens = vec![];
        list.take(&mut tokens);
        assert_eq!(tokens, [second, first]);
        list.take(&mut tokens);
        assert_eq!(tokens.len(), 2);
    }
}
