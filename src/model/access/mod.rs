//! Who may log in, which vhosts they may open, and what they may do there. Everything that a client
//! asks for is checked by [`Access::check`], and by [`Access::check_topic`] for topic exchanges.
//!
//! Permissions are RabbitMQ's (<https://www.rabbitmq.com/docs/access-control>): a user may *configure*,
//! *write* and *read* the queues and exchanges whose names match, vhost by vhost.

mod authorise;
mod limits;
mod password;

pub use authorise::authorise;
pub use limits::QueueLimits;
pub use password::{Password, PasswordCheck, UnknownHash};

use std::collections::BTreeMap;

use limits::Limits;

use crate::amqp::error::ChannelError;
use crate::base::settings::Permissions;
use crate::base::{Name, Pattern, Settings};
use crate::model::administration::{self, Administration};

/// Everybody's rights.
#[derive(Default, Debug)]
pub struct Access {
    users: BTreeMap<Name, User>,
    limits: Limits,
}

/// A user, and what is granted to it.
#[derive(Debug)]
pub struct User {
    /// As given in SASL.
    pub name: Name,
    /// Whether it may connect from this machine only.
    pub loopback_only: bool,
    /// Whether its messages may name another user as theirs.
    pub is_impersonator: bool,
    password: Password,
    /// By vhost.
    grants: BTreeMap<Name, Grant>,
}

/// What a user may do in a vhost.
#[derive(Debug)]
struct Grant {
    permissions: Permissions,
    /// By exchange.
    topics: BTreeMap<Name, TopicGrant>,
}

/// With which routing keys.
#[derive(Debug)]
struct TopicGrant {
    write: Pattern,
    read: Pattern,
}

/// What somebody wants to do with a queue or an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// To create or delete it.
    Configure,
    /// To put messages into it.
    Write,
    /// To take messages from it.
    Read,
}

impl Permission {
    /// As RabbitMQ's error texts name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What it is to be done with.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The queue of that name, whether it exists or not.
    Queue(&'a Name),
    /// The exchange of that name.
    Exchange(&'a Name),
}

/// What the default exchange is called by permissions.
const DEFAULT_EXCHANGE_ALIAS: &str = "amq.default";

/// Asking.
impl Access {
    /// The user with that name and password.
    pub fn log_in(&self, user: &[u8], password: &[u8]) -> Option<&User> {
        let name = std::str::from_utf8(user).ok()?;
        self.users
            .get(name)
            .filter(|user| user.password.matches(password))
    }

    /// What is to be found out before a user with that name and password has logged in, if it can't be said
    /// at once.
    pub fn open_check(&self, user: &[u8], password: &[u8]) -> Option<(&User, PasswordCheck)> {
        let user = self.users.get(std::str::from_utf8(user).ok()?)?;
        Some((user, user.password.check(password)?))
    }

    /// The user of that name.
    pub fn user(&self, name: &Name) -> Option<&User> {
        self.users.get(name)
    }

    /// Whether a user may open a vhost: any permission there, even for nothing, is enough.
    pub fn may_open(&self, user: &Name, vhost: &Name) -> bool {
        self.grant(user, vhost).is_some()
    }

    /// Whether a user may do that. This is asked before anything else about the queue or exchange, so
    /// that nobody learns of what they have no access to.
    ///
    /// # Errors
    /// `AccessRefused` (403).
    pub fn check(
        &self,
        user: &Name,
        vhost: &Name,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), ChannelError> {
        let (entity, name) = match resource {
            Resource::Queue(name) => ("queue", name.as_str()),
            Resource::Exchange(name) if name.as_str().is_empty() => {
                ("exchange", DEFAULT_EXCHANGE_ALIAS)
            }
            Resource::Exchange(name) => ("exchange", name.as_str()),
        };
        let granted = self.grant(user, vhost).is_some_and(|grant| {
            let pattern = match permission {
                Permission::Configure => &grant.permissions.configure,
                Permission::Write => &grant.permissions.write,
                Permission::Read => &grant.permissions.read,
            };
            pattern.matches(name.as_bytes())
        });
        if granted {
            return Ok(());
        }
        Err(ChannelError::AccessRefused {
            permission: permission.name(),
            entity,
            name: Name::from(name),
            vhost: vhost.clone(),
            user: user.clone(),
        })
    }

    /// Whether a user may publish to ([`Permission::Write`]) or bind to (any other) a topic exchange with
    /// that key. Without a topic permission for the exchange, the permission for all of it is enough.
    ///
    /// # Errors
    /// `TopicRefused` (403).
    pub fn check_topic(
        &self,
        user: &Name,
        vhost: &Name,
        permission: Permission,
        exchange: &Name,
        routing_key: &[u8],
    ) -> Result<(), ChannelError> {
        let grant = self.grant(user, vhost);
        let Some(topics) = grant.and_then(|grant| grant.topics.get(exchange)) else {
            return Ok(());
        };
        let pattern = match permission {
            Permission::Write => &topics.write,
            Permission::Configure | Permission::Read => &topics.read,
        };
        if pattern.matches(routing_key) {
            return Ok(());
        }
        Err(ChannelError::TopicRefused {
            permission: permission.name(),
            routing_key: String::from_utf8_lossy(routing_key).into_owned(),
            exchange: exchange.clone(),
            vhost: vhost.clone(),
            user: user.clone(),
        })
    }

    fn grant(&self, user: &Name, vhost: &Name) -> Option<&Grant> {
        self.users.get(user)?.grants.get(vhost)
    }
}

/// Granting.
impl Access {
    /// The rights of configured users and of stored ones. A stored user takes the place of a configured
    /// one of that name. Returns a line for the operator for each thing that has no effect.
    pub fn new(settings: &Settings, administration: &Administration) -> (Self, Vec<String>) {
        let mut access = Self {
            users: BTreeMap::new(),
            limits: Limits::new(settings, administration),
        };
        let mut lines = Vec::new();
        let is_stored = |name: &Name| administration.users().any(|user| user.name == *name);
        let has_stored = administration.users().next().is_some();
        for user in &settings.users {
            if is_stored(&user.name) && !user.is_fallback {
                let name = &user.name;
                lines.push(format!(
                    "user '{name}' of the configuration has no effect: the data directory has one of that name"
                ));
            } else if !(has_stored && user.is_fallback) {
                access.add_configured(user, settings);
            }
        }
        for user in administration.users() {
            if let Err(fault) = access.add_stored(user, settings) {
                lines.push(format!("user '{}' can't log in: {fault}", user.name));
            }
        }
        for permission in administration.permissions() {
            if let Err(fault) = access.permit(permission) {
                let (user, vhost) = (&permission.user, &permission.vhost);
                lines.push(format!(
                    "permission of user '{user}' in vhost '{vhost}' has no effect: {fault}"
                ));
            }
        }
        for permission in administration.topic_permissions() {
            if let Err(fault) = access.permit_topics(permission) {
                let (user, exchange) = (&permission.user, &permission.exchange);
                lines.push(format!(
                    "user '{user}' may use no key of exchange '{exchange}': {fault}"
                ));
            }
        }
        (access, lines)
    }

    fn add(&mut self, name: &Name, password: Password, tags: &[String], settings: &Settings) {
        let user = User {
            name: name.clone(),
            loopback_only: settings
                .loopback_users
                .iter()
                .any(|user| user == name.as_str()),
            is_impersonator: tags.iter().any(|tag| tag == "impersonator"),
            password,
            grants: BTreeMap::new(),
        };
        self.users.insert(name.clone(), user);
    }

    fn add_configured(&mut self, user: &crate::base::settings::User, settings: &Settings) {
        let password = Password::Clear(user.password.clone());
        self.add(&user.name, password, &user.tags, settings);
        let vhosts = settings.vhosts.iter();
        for vhost in vhosts.filter(|vhost| user.vhosts.matches(vhost.as_bytes())) {
            self.set_permissions(&user.name, vhost, user.permissions.clone());
        }
    }

    fn add_stored(
        &mut self,
        user: &administration::User,
        settings: &Settings,
    ) -> Result<(), UnknownHash> {
        let password = Password::parse(&user.password_hash, &user.hashing_algorithm);
        let (password, fault) = match password {
            Ok(password) => (password, Ok(())),
            Err(fault) => (Password::None, Err(fault)),
        };
        self.add(&user.name, password, &user.tags, settings);
        fault
    }

    fn permit(&mut self, permission: &administration::Permission) -> Result<(), String> {
        let permissions = permission.parse()?;
        if !self.set_permissions(&permission.user, &permission.vhost, permissions) {
            return Err("there is no such user".to_owned());
        }
        Ok(())
    }

    fn set_permissions(&mut self, user: &Name, vhost: &Name, permissions: Permissions) -> bool {
        let Some(user) = self.users.get_mut(user) else {
            return false;
        };
        let grant = Grant {
            permissions,
            topics: BTreeMap::new(),
        };
        user.grants.insert(vhost.clone(), grant);
        true
    }

    /// A pattern that isn't one grants nothing.
    fn permit_topics(
        &mut self,
        permission: &administration::TopicPermission,
    ) -> Result<(), String> {
        let user = self.users.get_mut(&permission.user);
        let grant = user.and_then(|user| user.grants.get_mut(&permission.vhost));
        let Some(grant) = grant else {
            // Without a permission for the vhost there is nothing to restrict.
            return Ok(());
        };
        let (write, read, fault) = match permission.parse() {
            Ok((write, read)) => (write, read, Ok(())),
            Err(fault) => {
                let nothing = Pattern::parse("").expect("an empty pattern is one");
                (nothing.clone(), nothing, Err(fault))
            }
        };
        let topics = TopicGrant { write, read };
        grant.topics.insert(permission.exchange.clone(), topics);
        fault
    }
}

impl administration::Permission {
    /// The patterns, ready to match.
    ///
    /// # Errors
    /// Which isn't one, and why.
    pub fn parse(&self) -> Result<Permissions, String> {
        Ok(Permissions {
            configure: pattern("configure", &self.configure)?,
            write: pattern("write", &self.write)?,
            read: pattern("read", &self.read)?,
        })
    }
}

impl administration::TopicPermission {
    /// The patterns to write and to read, ready to match. `{username}` and `{vhost}` stand for those
    /// names as they are. `{client_id}` stands for itself, as with RabbitMQ: AMQP 0-9-1 has none.
    ///
    /// # Errors
    /// Which isn't one, and why.
    pub fn parse(&self) -> Result<(Pattern, Pattern), String> {
        let expanded = |text: &str| {
            text.replace("{username}", &regex::escape(self.user.as_str()))
                .replace("{vhost}", &regex::escape(self.vhost.as_str()))
                .replace("{client_id}", "\\{client_id\\}")
        };
        let write = pattern("write", &expanded(&self.write))?;
        Ok((write, pattern("read", &expanded(&self.read))?))
    }
}

fn pattern(what: &str, text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(|reason| {
        format!("'{text}', to {what}, is no regular expression that can be used here: {reason}")
    })
}

#[cfg(test)]
mod tests;
