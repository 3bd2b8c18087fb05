//! Passwords that are checked beside the turns.

use super::Turn;

impl Turn {
    /// Tells the broker's core what the last check has found, and has the next one made.
    pub(super) fn check_passwords(&mut self) -> bool {
        let answer = self.checker.take_answer();
        if let Some((session, is_right)) = answer {
            self.core.password_checked(self.now, session, is_right);
        }
        if self.checker.is_idle()
            && let Some(order) = self.core.next_password_check()
        {
            self.checker.order(order);
        }
        answer.is_some()
    }
}
