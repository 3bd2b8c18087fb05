//! How many connections and channels there are, over all cores: kept by the catalog for those whom a
//! limit concerns. They ask before they open, and say when they have gone.

use std::collections::BTreeMap;

use crate::amqp::error::ConnectionError;
use crate::base::{Name, SessionId};
use crate::model::Access;

/// Who is there.
#[derive(Default)]
pub(super) struct Attendance {
    sessions: BTreeMap<SessionId, Present>,
    users: BTreeMap<Name, Count>,
    /// Connections.
    vhosts: BTreeMap<Name, u64>,
}

/// A session that was let in.
struct Present {
    user: Name,
    vhost: Name,
    channels: u64,
}

/// What a user has.
#[derive(Clone, Copy, Default)]
struct Count {
    connections: u64,
    channels: u64,
}

impl Attendance {
    /// A session wants to open a vhost.
    pub(super) fn enter(
        &mut self,
        session: SessionId,
        user: Name,
        vhost: Name,
        access: &Access,
    ) -> Result<(), ConnectionError> {
        let in_vhost = self.vhosts.get(&vhost).copied().unwrap_or_default();
        let of_user = self.count(&user).connections;
        access.check_connections((&vhost, in_vhost), (&user, of_user))?;
        *self.vhosts.entry(vhost.clone()).or_default() += 1;
        self.users.entry(user.clone()).or_default().connections += 1;
        let present = Present {
            user,
            vhost,
            channels: 0,
        };
        self.sessions.insert(session, present);
        Ok(())
    }

    /// A session has gone, with its channels. Whoever wasn't let in changes nothing.
    pub(super) fn leave(&mut self, session: SessionId) {
        let Some(gone) = self.sessions.remove(&session) else {
            return;
        };
        if let Some(connections) = self.vhosts.get_mut(&gone.vhost) {
            *connections -= 1;
        }
        self.vhosts.retain(|_, connections| *connections > 0);
        if let Some(count) = self.users.get_mut(&gone.user) {
            count.connections -= 1;
            count.channels -= gone.channels;
            if count.connections == 0 {
                self.users.remove(&gone.user);
            }
        }
    }

    /// A session wants to open a channel.
    pub(super) fn open_channel(
        &mut self,
        session: SessionId,
        access: &Access,
    ) -> Result<(), ConnectionError> {
        let Some(present) = self.sessions.get_mut(&session) else {
            return Ok(());
        };
        let count = self.users.entry(present.user.clone()).or_default();
        access.check_channels(&present.user, count.channels)?;
        present.channels += 1;
        count.channels += 1;
        Ok(())
    }

    /// A session has closed a channel.
    pub(super) fn close_channel(&mut self, session: SessionId) {
        if let Some(present) = self.sessions.get_mut(&session)
            && present.channels > 0
            && let Some(count) = self.users.get_mut(&present.user)
        {
            present.channels -= 1;
            count.channels -= 1;
        }
    }

    fn count(&self, user: &Name) -> Count {
        self.users.get(user).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CoreId, Settings};
    use crate::model::Administration;
    use crate::model::administration::{Administered, Parameter, User, VHOST_LIMITS};

    fn session(index: u32) -> SessionId {
        SessionId {
            core: CoreId(index as u16 % 2),
            index,
            generation: 1,
        }
    }

    fn access(user: &str, limits: &[(&str, i64)], vhost_connections: i64) -> Access {
        let mut administration = Administration::default();
        administration.set(Administered::User(User {
            name: Name::from(user),
            password_hash: String::new(),
            hashing_algorithm: "rabbit_password_hashing_sha256".to_owned(),
            tags: vec![],
            limits: limits
                .iter()
                .map(|(name, limit)| ((*name).to_owned(), *limit))
                .collect(),
        }));
        administration.set(Administered::Parameter(Parameter {
            vhost: Name::from("v"),
            component: Name::from(VHOST_LIMITS),
            name: Name::from("limits"),
            value: serde_json::json!({ "max-connections": vhost_connections }),
        }));
        Access::new(&Settings::default(), &administration).0
    }

    fn enter(attendance: &mut Attendance, index: u32, user: &str, access: &Access) -> bool {
        let (user, vhost) = (Name::from(user), Name::from("v"));
        attendance
            .enter(session(index), user, vhost, access)
            .is_ok()
    }

    #[test]
    fn a_place_is_free_again_when_its_session_has_gone() {
        let access = access("u", &[("max-connections", 2)], 3);
        let mut attendance = Attendance::default();
        assert!(enter(&mut attendance, 1, "u", &access));
        assert!(enter(&mut attendance, 2, "u", &access));
        assert!(
            !enter(&mut attendance, 3, "u", &access),
            "two of the user's"
        );
        attendance.leave(session(3));
        assert!(!enter(&mut attendance, 3, "u", &access), "it was never in");
        assert!(enter(&mut attendance, 4, "other", &access));
        assert!(
            !enter(&mut attendance, 5, "third", &access),
            "three in the vhost"
        );
        attendance.leave(session(1));
        attendance.leave(session(1));
        assert!(enter(&mut attendance, 5, "u", &access));
        assert!(!enter(&mut attendance, 6, "u", &access));
    }

    #[test]
    fn channels_count_over_all_of_a_users_sessions() {
        let access = access("u", &[("max-channels", 2)], -1);
        let mut attendance = Attendance::default();
        for index in [1, 2] {
            assert!(enter(&mut attendance, index, "u", &access));
            assert!(attendance.open_channel(session(index), &access).is_ok());
        }
        let error = attendance
            .open_channel(session(1), &access)
            .expect_err("the third");
        assert_eq!(
            error.to_string(),
            "number of channels opened for user 'u' has reached the maximum allowed user limit of (2)"
        );
        attendance.close_channel(session(2));
        assert!(attendance.open_channel(session(1), &access).is_ok());
        attendance.leave(session(1));
        for _ in 0..2 {
            assert!(attendance.open_channel(session(2), &access).is_ok());
        }
        assert!(attendance.open_channel(session(2), &access).is_err());
    }

    #[test]
    fn a_limit_of_0_lets_nobody_in_and_a_negative_one_is_none() {
        let closed = access("u", &[("max-connections", 0)], -1);
        let open = access("u", &[("max-connections", -1)], -1);
        let mut attendance = Attendance::default();
        assert!(!enter(&mut attendance, 1, "u", &closed));
        assert!(enter(&mut attendance, 1, "u", &open));
        let (user, vhost) = (Name::from("u"), Name::from("v"));
        assert!(closed.is_counted(&user, &vhost) && !open.is_counted(&user, &vhost));
    }
}
