//! How many connections, channels and queues a user or a vhost may have.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Access;
use crate::amqp::error::{ChannelError, ConnectionError};
use crate::base::settings::DefaultLimits;
use crate::base::{Name, Settings};
use crate::model::administration::{Administration, VHOST_LIMITS};

/// The limits that were set, by user and by vhost.
#[derive(Default, Debug)]
pub(super) struct Limits {
    user_connections: BTreeMap<Name, u64>,
    user_channels: BTreeMap<Name, u64>,
    vhost_connections: BTreeMap<Name, u64>,
    vhost_queues: QueueLimits,
}

/// How many queues vhosts may have, where that was set.
#[derive(Default, Debug)]
pub struct QueueLimits(BTreeMap<Name, u64>);

const MAX_CONNECTIONS: &str = "max-connections";
const MAX_CHANNELS: &str = "max-channels";
const MAX_QUEUES: &str = "max-queues";

impl Limits {
    pub(super) fn new(settings: &Settings, administration: &Administration) -> Self {
        let mut limits = Self::default();
        for user in administration.users() {
            let limit = |name| user.limits.get(name).copied();
            set(
                &mut limits.user_connections,
                &user.name,
                limit(MAX_CONNECTIONS),
            );
            set(&mut limits.user_channels, &user.name, limit(MAX_CHANNELS));
        }
        let defaults = &settings.default_limits;
        limits.vhost_connections =
            of_vhosts(&settings.vhosts, administration, MAX_CONNECTIONS, |vhost| {
                first_match(defaults, vhost)?.connections
            });
        limits.vhost_queues = QueueLimits::new(&settings.vhosts, defaults, administration);
        limits
    }
}

/// The limit of that name of each vhost that has one: as administrators have set it, or where they have
/// set none for the vhost as the configuration says.
fn of_vhosts<'a>(
    vhosts: impl IntoIterator<Item = &'a Name>,
    administration: &Administration,
    name: &str,
    default: impl Fn(&Name) -> Option<u64>,
) -> BTreeMap<Name, u64> {
    let vhosts = vhosts.into_iter();
    let mut limits: BTreeMap<_, _> = vhosts
        .filter_map(|vhost| Some((vhost.clone(), default(vhost)?)))
        .collect();
    for parameter in administration.parameters() {
        if parameter.component.as_str() == VHOST_LIMITS {
            limits.remove(&parameter.vhost);
            let limit = parameter.value.get(name).and_then(Json::as_i64);
            set(&mut limits, &parameter.vhost, limit);
        }
    }
    limits
}

fn first_match<'a>(defaults: &'a [DefaultLimits], vhost: &Name) -> Option<&'a DefaultLimits> {
    let mut defaults = defaults.iter();
    defaults.find(|default| default.vhosts.matches(vhost.as_bytes()))
}

impl QueueLimits {
    /// Of these vhosts, and of those that administrators have set limits for.
    pub fn new<'a>(
        vhosts: impl IntoIterator<Item = &'a Name>,
        defaults: &[DefaultLimits],
        administration: &Administration,
    ) -> Self {
        Self(of_vhosts(vhosts, administration, MAX_QUEUES, |vhost| {
            first_match(defaults, vhost)?.queues
        }))
    }

    /// Whether there may be one more queue in a vhost that has so many.
    ///
    /// # Errors
    /// `PreconditionFailed` (406).
    pub fn check(&self, vhost: &Name, queues: usize, name: &Name) -> Result<(), ChannelError> {
        match reached(&self.0, vhost, queues as u64) {
            Some(limit) => Err(ChannelError::PreconditionFailed(format!(
                "cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
            ))),
            None => Ok(()),
        }
    }
}

/// Less than 0 is no limit.
fn set(limits: &mut BTreeMap<Name, u64>, name: &Name, limit: Option<i64>) {
    if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) {
        limits.insert(name.clone(), limit);
    }
}

impl Access {
    /// Whether it must be counted who this is: there is a limit on connections that concerns it, or one on
    /// its channels.
    pub fn is_counted(&self, user: &Name, vhost: &Name) -> bool {
        self.limits.vhost_connections.contains_key(vhost)
            || self.limits.user_connections.contains_key(user)
            || self.has_channel_limit(user)
    }

    /// Whether there is a limit on the user's channels.
    pub fn has_channel_limit(&self, user: &Name) -> bool {
        self.limits.user_channels.contains_key(user)
    }

    /// Whether there may be one more connection, with so many of the vhost and of the user there already.
    ///
    /// # Errors
    /// `NotAllowed` (530).
    pub fn check_connections(
        &self,
        (vhost, in_vhost): (&Name, u64),
        (user, of_user): (&Name, u64),
    ) -> Result<(), ConnectionError> {
        if let Some(limit) = reached(&self.limits.vhost_connections, vhost, in_vhost) {
            return Err(ConnectionError::NotAllowed(format!(
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
            )));
        }
        if let Some(limit) = reached(&self.limits.user_connections, user, of_user) {
            return Err(ConnectionError::NotAllowed(format!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            )));
        }
        Ok(())
    }

    /// Whether a user may open one more channel, with so many there already over all connections.
    ///
    /// # Errors
    /// `NotAllowed` (530).
    pub fn check_channels(&self, user: &Name, channels: u64) -> Result<(), ConnectionError> {
        match reached(&self.limits.user_channels, user, channels) {
            Some(limit) => Err(ConnectionError::NotAllowed(format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            ))),
            None => Ok(()),
        }
    }

    /// Whether there may be one more queue in a vhost that has so many.
    ///
    /// # Errors
    /// `PreconditionFailed` (406).
    pub fn check_queues(
        &self,
        vhost: &Name,
        queues: usize,
        name: &Name,
    ) -> Result<(), ChannelError> {
        self.limits.vhost_queues.check(vhost, queues, name)
    }
}

/// The limit, if there are so many.
fn reached(limits: &BTreeMap<Name, u64>, name: &Name, count: u64) -> Option<u64> {
    limits.get(name).copied().filter(|limit| count >= *limit)
}
