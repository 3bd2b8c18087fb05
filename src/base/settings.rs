//! What the operator decided, as the pure rooms see it: parsed and checked by `config`, the same on
//! every core, unchanged while the broker runs.

use std::fmt;
use std::time::Duration;

use super::{Name, Pattern, limits};

/// Limits offered to clients, vhosts and users.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest frame offered in `connection.tune`, in bytes.
    pub frame_max: u32,
    /// Channels a connection may have open.
    pub channel_max: u16,
    /// Heartbeat interval offered, in whole seconds; 0 is none.
    pub heartbeat_s: u16,
    /// From accept to `connection.open-ok`.
    pub handshake_timeout: Duration,
    /// How long a consumer may keep a delivery without acknowledging it, where its queue and policies
    /// say nothing. None is for ever.
    pub consumer_timeout: Option<Duration>,
    /// Largest message body in bytes.
    pub message_bytes_max: u64,
    /// Dead bytes that a log may hold beyond as many as are alive, as [`limits::LOG_GARBAGE_BYTES`]. No
    /// key of the configuration sets it; the simulator has less room.
    pub log_garbage_bytes: u64,
    /// Bytes of messages that a core keeps in memory, as [`limits::RESIDENT_BYTES_MAX`]. No key of the
    /// configuration sets it; the simulator's cores keep less.
    pub resident_bytes: usize,
    /// Messages that a session exchanges with queues before it may move to their core, as
    /// [`limits::MOVE_MESSAGES_MIN`]; 0 keeps every session where it is. No key of the configuration sets it;
    /// in the simulator sessions move sooner.
    pub move_messages: u32,
    /// Whether a new queue may live on another core than its declarer's, where there is less to do. No key of the
    /// configuration sets it; most of the simulator's clients declare where they are.
    pub spreads_queues: bool,
    /// Every vhost by name; `/` is always there.
    pub vhosts: Vec<Name>,
    /// What queues are that are declared without a type, where their vhost says nothing: RabbitMQ's name for it.
    pub default_queue_type: Option<String>,
    /// Limits of vhosts that have none of their own; the first that matches counts.
    pub default_limits: Vec<DefaultLimits>,
    /// Who may log in, besides the users that are stored.
    pub users: Vec<User>,
    /// Names of users, also of stored ones, who may connect from this machine only.
    pub loopback_users: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frame_max: limits::FRAME_MAX,
            channel_max: limits::CHANNEL_MAX,
            heartbeat_s: limits::HEARTBEAT.as_secs() as u16,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            consumer_timeout: None,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            log_garbage_bytes: limits::LOG_GARBAGE_BYTES,
            resident_bytes: limits::RESIDENT_BYTES_MAX,
            move_messages: limits::MOVE_MESSAGES_MIN,
            spreads_queues: true,
            vhosts: vec![Name::from("/")],
            default_queue_type: None,
            default_limits: Vec::new(),
            users: vec![User {
                name: Name::from("guest"),
                password: Secret::new("guest"),
                tags: vec!["administrator".to_owned()],
                vhosts: Pattern::exactly("/"),
                permissions: Permissions::default(),
                is_fallback: true,
            }],
            loopback_users: vec!["guest".to_owned()],
        }
    }
}

impl Settings {
    /// Vhosts that aren't configured are there as well, each once.
    pub fn add_vhosts<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        for name in names {
            if !self.vhosts.contains(name) {
                self.vhosts.push(name.clone());
            }
        }
    }
}

/// How much a vhost may have, by its name.
#[derive(Clone, Debug)]
pub struct DefaultLimits {
    /// Which vhosts it is for.
    pub vhosts: Pattern,
    /// Connections to each of them.
    pub connections: Option<u64>,
    /// Queues in each of them.
    pub queues: Option<u64>,
}

/// A user of the configuration file.
#[derive(Clone, Debug)]
pub struct User {
    /// As given in SASL.
    pub name: Name,
    /// In the clear, as it stands in the file.
    pub password: Secret,
    /// `administrator`, `impersonator` and the like.
    pub tags: Vec<String>,
    /// The vhosts that the user may open, also stored ones (the file's `vhost_pattern`).
    pub vhosts: Pattern,
    /// What the user may do there.
    pub permissions: Permissions,
    /// Nobody has asked for this user: it is there as long as there is no stored one.
    pub is_fallback: bool,
}

/// Which queues and exchanges a user may work with, by their names.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// Create and delete them.
    pub configure: Pattern,
    /// Put messages into them.
    pub write: Pattern,
    /// Take messages from them.
    pub read: Pattern,
}

impl Default for Permissions {
    /// All of them.
    fn default() -> Self {
        let everything = Pattern::parse(".*").expect("it is a regular expression");
        Self {
            configure: everything.clone(),
            write: everything.clone(),
            read: everything,
        }
    }
}

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps the text.
    pub fn new(text: &str) -> Self {
        Self(Box::from(text))
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = own.len() ^ other.len();
        for (at, byte) in other.iter().enumerate() {
            let expected = own.get(at).copied().unwrap_or(0);
            difference |= usize::from(byte ^ expected);
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
