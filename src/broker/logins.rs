//! Logins whose passwords take long to check: each waits for its turn, and for somebody outside.

use super::Core;
use crate::base::{SessionId, Time};
use crate::model::access::PasswordCheck;

impl Core {
    /// A password that is to be checked where nobody waits for it, and for whom; the answer is to be given to
    /// [`Core::password_checked`]. Those who have hung up are passed over.
    pub fn next_password_check(&mut self) -> Option<(SessionId, PasswordCheck)> {
        while let Some((session, check)) = self.password_checks.pop_front() {
            if self.sessions.of(session).is_some() {
                return Some((session, check));
            }
        }
        None
    }

    /// It was checked.
    pub fn password_checked(&mut self, now: Time, session: SessionId, is_right: bool) {
        self.tell(now, session, |session, context| {
            session.password_checked(is_right, context);
        });
    }
}
