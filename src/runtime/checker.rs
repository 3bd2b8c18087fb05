//! A thread that checks passwords whose hashes are made to be slow, one after the other, while the core
//! does its turns.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::mesh::Beds;
use super::placement;
use crate::base::{CoreId, SessionId};
use crate::model::access::PasswordCheck;

/// Others go first: whoever logs in can wait, and whoever only tries to shouldn't be noticed.
const NICE: i32 = 10;

type Order = (SessionId, PasswordCheck);
/// Who asked, and whether the password is right.
type Answer = (SessionId, bool);

/// The thread of one core. Started with its first order; it ends by itself when this is dropped.
pub(crate) struct Checker {
    core: CoreId,
    beds: Arc<Beds>,
    thread: Option<(Sender<Order>, Receiver<Answer>)>,
    /// An order that isn't answered.
    is_busy: bool,
    answer: Option<Answer>,
}

impl Checker {
    pub(crate) fn new(core: CoreId, beds: Arc<Beds>) -> Self {
        Self {
            core,
            beds,
            thread: None,
            is_busy: false,
            answer: None,
        }
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_busy
    }

    /// Has a password checked. It must be idle. A thread that can't be started knows none.
    pub(crate) fn order(&mut self, order: Order) {
        let session = order.0;
        self.is_busy = true;
        if self.thread.is_none() {
            self.thread = start(self.core, Arc::clone(&self.beds)).ok();
        }
        let is_taken = match &self.thread {
            Some((orders, _)) => orders.send(order).is_ok(),
            None => false,
        };
        if !is_taken {
            tracing::warn!("there is no thread to check a password: the login is refused");
            self.thread = None;
            self.answer = Some((session, false));
        }
    }

    /// Whether [`Checker::take_answer`] has one.
    pub(crate) fn has_answer(&mut self) -> bool {
        if self.answer.is_none()
            && self.is_busy
            && let Some((_, answers)) = &self.thread
        {
            self.answer = answers.try_recv().ok();
        }
        self.answer.is_some()
    }

    pub(crate) fn take_answer(&mut self) -> Option<Answer> {
        if !self.has_answer() {
            return None;
        }
        self.is_busy = false;
        self.answer.take()
    }
}

fn start(core: CoreId, beds: Arc<Beds>) -> io::Result<(Sender<Order>, Receiver<Answer>)> {
    let (orders, received) = channel::<Order>();
    let (answers, answered) = channel();
    let thread = thread::Builder::new().name("leveret-login".to_owned());
    thread.spawn(move || {
        placement::leave_the_core();
        // Of Linux' calls this is one that means the thread.
        let _ = rustix::process::setpriority_process(None, NICE);
        for (session, check) in received {
            if answers.send((session, check.run())).is_err() {
                return;
            }
            beds.rouse(core);
        }
    })?;
    Ok((orders, answered))
}
