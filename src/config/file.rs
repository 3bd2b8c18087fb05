//! The configuration file, in the format of RabbitMQ's `rabbitmq.conf`:
//!
//! ```text
//! # a comment
//! key = value            # what follows a # is a comment
//! key = 'a value with # in it'
//! ```
//!
//! A key that means the same as RabbitMQ's has its name. One of RabbitMQ's that does nothing here is
//! accepted with a warning, so that an existing file works; any other is a mistake, as with RabbitMQ.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::{Amount, LogLevel};
use super::users::{ROOT, Users};
use super::{ConfigError, default_limits, value};
use crate::base::{Name, Settings, limits};

/// RabbitMQ's own upper bound for `max_message_size`, in bytes.
const MESSAGE_BYTES_LIMIT: u64 = 512 * 1024 * 1024;
/// A frame is kept until it is complete: larger ones than this would cost more than they save.
const FRAME_MAX_LIMIT: u64 = 16 * 1024 * 1024;
const MEMORY_LIMIT: &str = "vm_memory_high_watermark";
const DISK_LIMIT: &str = "disk_free_limit";
/// More than all RAM can't be taken.
const MEMORY_FRACTION_MAX: f64 = 1.0;
/// RabbitMQ's page recommends 1.0 and more; beyond a hundred times the RAM it is a slip.
const DISK_FRACTION_MAX: f64 = 100.0;

/// RabbitMQ's keys that do nothing here; one that ends in `.` or `_` stands for all that begin so.
const WITHOUT_EFFECT: [&str; 75] = [
    "amqp1_0.",
    "anonymous_login_",
    "auth_backends.",
    "auth_cache.",
    "auth_http.",
    "auth_ldap.",
    "auth_mechanisms.",
    "auth_oauth2.",
    "aws.",
    "background_gc_",
    "channel_max_per_node",
    "channel_operation_timeout",
    "classic_queue.",
    "cluster_formation.",
    "cluster_keepalive_interval",
    "cluster_name",
    "cluster_partition_handling",
    "cluster_partition_handling.",
    "cluster_tags.",
    "collect_statistics",
    "collect_statistics_",
    "connection_max",
    "consumer_max_per_channel",
    "credential_validator.",
    "default_policies.",
    "default_worker_pool_size",
    "definitions.",
    "delegate_count",
    "deprecated_features.",
    "distribution.",
    "erlang.",
    "event_exchange.",
    "federation.",
    "hipe_compile",
    "initial_frame_max",
    "listeners.ssl",
    "listeners.ssl.",
    "log.",
    "management.",
    "management_agent.",
    "max_connections",
    "memory_monitor_interval",
    "message_interceptors.",
    "message_store_shutdown_timeout",
    "mirroring_sync_",
    "mnesia_table_loading_retry_",
    "motd_file",
    "mqtt.",
    "msg_store_",
    "net_ticktime",
    "num_acceptors.",
    "password_hashing_module",
    "product.",
    "prometheus.",
    "proxy_protocol",
    "queue_index_",
    "queue_leader_locator",
    "queue_master_locator",
    "quorum_queue.",
    "raft.",
    "reverse_dns_lookups",
    "socket_writer.",
    "ssl_",
    "stomp.",
    "stream.",
    "sysmon_handler.",
    "tcp_listen_options",
    "tcp_listen_options.",
    "total_memory_available_override_value",
    "trust_store.",
    "vhost_restart_strategy",
    "vm_memory_calculation_strategy",
    "vm_memory_high_watermark_paging_ratio",
    "web_mqtt.",
    "web_stomp.",
];

/// What a file says, key by key; nothing where it says nothing.
#[derive(Default, Debug)]
pub(super) struct File {
    /// By the last part of `listeners.tcp.NAME`.
    pub(super) listeners: BTreeMap<String, SocketAddr>,
    /// `listeners.tcp = none`
    pub(super) no_listeners: bool,
    pub(super) users: Users,
    pub(super) backlog: Option<u32>,
    pub(super) nodelay: Option<bool>,
    pub(super) log_level: Option<LogLevel>,
    /// Files with definitions, in RabbitMQ's format.
    pub(super) load_definitions: Vec<PathBuf>,
    pub(super) memory_limit: Limit,
    pub(super) disk_limit: Limit,
    handshake_timeout: Option<Duration>,
    heartbeat_s: Option<u16>,
    consumer_timeout: Option<Duration>,
    frame_max: Option<u32>,
    channel_max: Option<u16>,
    message_bytes_max: Option<u64>,
    vhosts: BTreeMap<String, String>,
    default_queue_type: Option<String>,
    default_limits: default_limits::Vhosts,
    warnings: Vec<String>,
}

/// `KEY.absolute` and `KEY.relative`
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Limit {
    absolute: Option<u64>,
    relative: Option<f64>,
}

impl Limit {
    /// What the file says, or else this.
    pub(super) fn or(self, default: Amount) -> Amount {
        match (self.absolute, self.relative) {
            (Some(bytes), _) => Amount::Bytes(bytes),
            (None, Some(fraction)) => Amount::OfRam(fraction),
            (None, None) => default,
        }
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<File, ConfigError> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("cannot read configuration file {name}: {error}")))?;
    parse(&name, &text)
}

pub(super) fn parse(name: &str, text: &str) -> Result<File, ConfigError> {
    let mut file = File::default();
    for (number, line) in (1..).zip(text.lines()) {
        let at = Place { name, number };
        let Some((key, value)) = split(line).map_err(|expected| at.mistake(&expected))? else {
            continue;
        };
        match file.set(&at, key, value) {
            Ok(()) => {}
            Err(Refused::Key) => {
                return Err(ConfigError(format!(
                    "unknown key '{key}' in {name} line {number}"
                )));
            }
            Err(Refused::Value(expected)) => {
                return Err(at.mistake(&format!("{key}: {expected}, not '{value}'")));
            }
            Err(Refused::Secret(expected)) => return Err(at.mistake(&format!("{key}: {expected}"))),
        }
    }
    Ok(file)
}

/// Where a line stands.
struct Place<'a> {
    name: &'a str,
    number: usize,
}

impl Place<'_> {
    fn mistake(&self, what: &str) -> ConfigError {
        ConfigError(format!("{} line {}: {what}", self.name, self.number))
    }
}

/// Key and value of a line, if there is anything on it.
fn split(line: &str) -> Result<Option<(&str, &str)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let Some((key, value)) = line.split_once('=') else {
        return Err("expected `key = value`".to_owned());
    };
    let (key, value) = (key.trim(), value.trim());
    let value = match value.strip_prefix('\'') {
        Some(quoted) => {
            let (value, rest) = quoted
                .split_once('\'')
                .ok_or_else(|| format!("{key}: expected a closing '"))?;
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err(format!("{key}: expected nothing behind the closing '"));
            }
            value
        }
        None => value.split('#').next().unwrap_or_default().trim_end(),
    };
    if key.is_empty() || value.is_empty() {
        return Err("expected `key = value`".to_owned());
    }
    Ok(Some((key, value)))
}

/// Why a line isn't taken.
pub(super) enum Refused {
    /// There is no such key.
    Key,
    /// What was expected; the value is shown.
    Value(String),
    /// What was expected; the value is not shown.
    Secret(String),
}

impl From<String> for Refused {
    fn from(expected: String) -> Self {
        Self::Value(expected)
    }
}

impl From<&str> for Refused {
    fn from(expected: &str) -> Self {
        Self::Value(expected.to_owned())
    }
}

impl File {
    fn set(&mut self, at: &Place<'_>, key: &str, value: &str) -> Result<(), Refused> {
        let parts: Vec<&str> = key.split('.').collect();
        match parts[..] {
            ["listeners", "tcp"] if value == "none" => {
                self.listeners.clear();
                self.no_listeners = true;
            }
            ["listeners", "tcp"] => return Err("expected none".into()),
            ["listeners", "tcp", name] => {
                self.listeners
                    .insert(name.to_owned(), value::port_or_address(value)?);
            }
            ["handshake_timeout"] => {
                let timeout_ms = value::number(value, 1..=3_600_000, "milliseconds")?;
                self.handshake_timeout = Some(Duration::from_millis(timeout_ms));
            }
            ["consumer_timeout"] => {
                let timeout_ms =
                    value::number(value, 1..=limits::CONSUMER_TIMEOUT_MS_MAX, "milliseconds")?;
                self.consumer_timeout = Some(Duration::from_millis(timeout_ms));
            }
            ["heartbeat"] => {
                self.heartbeat_s =
                    Some(value::number(value, 0..=u64::from(u16::MAX), "seconds")? as u16);
            }
            ["frame_max"] => self.frame_max = Some(frame_max(value)?),
            ["channel_max"] => {
                let max = value::number(value, 0..=u64::from(u16::MAX), "channels")? as u16;
                // 0 is no limit: then the protocol's 16 bits are.
                self.channel_max = Some(if max == 0 { u16::MAX } else { max });
            }
            ["max_message_size"] => {
                self.message_bytes_max =
                    Some(value::number(value, 1..=MESSAGE_BYTES_LIMIT, "bytes")?);
            }
            ["vhosts", name] => {
                self.vhosts.insert(name.to_owned(), short(value)?);
            }
            ["default_queue_type"] => {
                self.default_queue_type = Some(queue_type(value)?);
            }
            ["default_limits", "vhosts", id, key] => self.default_limits.set(id, key, value)?,
            ["tcp_listen_options", "backlog"] => {
                self.backlog = Some(value::number(value, 1..=65_535, "connections")? as u32);
            }
            ["tcp_listen_options", "nodelay"] => self.nodelay = Some(value::boolean(value)?),
            ["load_definitions"]
            | ["definitions", "local", "path"]
            | ["management", "load_definitions"] => self.load_definitions.push(value.into()),
            ["definitions", "import_backend"] if value != "local_filesystem" => {
                return Err("expected local_filesystem".into());
            }
            ["definitions", "import_backend"] => {}
            [MEMORY_LIMIT, "absolute"] => self.memory_limit.absolute = Some(value::size(value)?),
            [MEMORY_LIMIT, "relative"] => {
                let fraction = value::fraction_of_ram(value, MEMORY_FRACTION_MAX)?;
                self.memory_limit.relative = Some(fraction);
            }
            [DISK_LIMIT, "absolute"] => self.disk_limit.absolute = Some(value::size(value)?),
            [DISK_LIMIT, "relative"] => {
                let fraction = value::fraction_of_ram(value, DISK_FRACTION_MAX)?;
                self.disk_limit.relative = Some(fraction);
            }
            ["log", "console", "level"] => self.log_level = Some(value::log_level(value)?),
            _ if is_without_effect(key) => self.warn(at, key, "has no effect here"),
            _ => return self.users.set(&parts, value),
        }
        Ok(())
    }

    fn warn(&mut self, at: &Place<'_>, key: &str, what: &str) {
        self.warnings
            .push(format!("{} line {}: {key} {what}", at.name, at.number));
    }

    fn warn_of_double_limits(&mut self) {
        for (key, limit) in [
            (MEMORY_LIMIT, self.memory_limit),
            (DISK_LIMIT, self.disk_limit),
        ] {
            if limit.absolute.is_some() && limit.relative.is_some() {
                self.warnings.push(format!(
                    "{key}.relative has no effect beside {key}.absolute"
                ));
            }
        }
    }

    /// The settings of the pure rooms, and the warnings.
    pub(super) fn settings(mut self) -> Result<(Settings, Vec<String>), ConfigError> {
        self.warn_of_double_limits();
        let default_vhost = self.users.default_vhost();
        let vhosts = distinct(
            [ROOT, default_vhost]
                .into_iter()
                .chain(self.vhosts.values().map(String::as_str)),
        );
        let users = self.users.users()?;
        let default = Settings::default();
        let settings = Settings {
            frame_max: self.frame_max.unwrap_or(default.frame_max),
            channel_max: self.channel_max.unwrap_or(default.channel_max),
            heartbeat_s: self.heartbeat_s.unwrap_or(default.heartbeat_s),
            handshake_timeout: self.handshake_timeout.unwrap_or(default.handshake_timeout),
            consumer_timeout: self.consumer_timeout,
            message_bytes_max: self.message_bytes_max.unwrap_or(default.message_bytes_max),
            log_garbage_bytes: default.log_garbage_bytes,
            resident_bytes: default.resident_bytes,
            move_messages: default.move_messages,
            spreads_queues: default.spreads_queues,
            vhosts,
            default_queue_type: self.default_queue_type,
            default_limits: self.default_limits.limits()?,
            users,
            loopback_users: self.users.loopback_users(),
        };
        Ok((settings, self.warnings))
    }
}

/// By its name, or as RabbitMQ's module is called.
fn queue_type(value: &str) -> Result<String, &'static str> {
    let module = value
        .strip_prefix("rabbit_")
        .and_then(|rest| rest.strip_suffix("_queue"));
    match module.unwrap_or(value) {
        name @ ("classic" | "quorum" | "stream") => Ok(name.to_owned()),
        _ => Err("expected classic, quorum or stream"),
    }
}

fn frame_max(value: &str) -> Result<u32, String> {
    if value == "0" {
        // No limit: then the broker's own is.
        return Ok(limits::FRAME_MAX);
    }
    value::number(
        value,
        u64::from(limits::FRAME_MIN)..=FRAME_MAX_LIMIT,
        "0 or bytes",
    )
    .map(|bytes| bytes as u32)
}

/// A name that fits AMQP's short strings.
pub(super) fn short(value: &str) -> Result<String, Refused> {
    if value.len() > 255 {
        Err("expected at most 255 bytes".into())
    } else {
        Ok(value.to_owned())
    }
}

/// RabbitMQ can decrypt values with a passphrase that is kept elsewhere.
pub(super) fn password(value: &str) -> Result<String, Refused> {
    if value.starts_with("encrypted:") {
        return Err(Refused::Secret(
            "expected a password in the clear, not an encrypted one".to_owned(),
        ));
    }
    Ok(value.to_owned())
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Name> {
    let mut distinct: Vec<Name> = vec![];
    for name in names {
        if !distinct.iter().any(|known| known.as_str() == name) {
            distinct.push(Name::from(name));
        }
    }
    distinct
}

fn is_without_effect(key: &str) -> bool {
    WITHOUT_EFFECT
        .iter()
        .any(|known| key == *known || (known.ends_with(['.', '_']) && key.starts_with(known)))
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    fn settings(text: &str) -> (Settings, Vec<String>) {
        parse("f", text)
            .and_then(File::settings)
            .expect("the file is correct")
    }

    fn mistake(text: &str) -> String {
        parse("f", text)
            .and_then(File::settings)
            .expect_err("the file is wrong")
            .to_string()
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        let (settings, warnings) = settings("\n# a comment\n   \n");
        assert_eq!(
            format!("{settings:?}"),
            format!("{:?}", Settings::default())
        );
        assert!(settings.users[0].password.matches(b"guest"));
        assert!(warnings.is_empty());
    }

    #[test]
    fn limits_are_read() {
        let (settings, warnings) = settings(
            "handshake_timeout = 5000\nheartbeat=0 # none\n frame_max = 4096\nchannel_max = 0\nmax_message_size = 1\n\
             consumer_timeout = 1800000\n",
        );
        assert_eq!(settings.consumer_timeout, Some(Duration::from_secs(1800)));
        assert_eq!(settings.handshake_timeout, Duration::from_secs(5));
        assert_eq!(settings.heartbeat_s, 0);
        assert_eq!(settings.frame_max, 4096);
        assert_eq!(settings.channel_max, u16::MAX);
        assert_eq!(settings.message_bytes_max, 1);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_quoted_value_may_hold_a_comment_sign() {
        let (settings, _) = settings("default_user = admin\ndefault_pass = 'se#cret' # comment\n");
        assert!(settings.users[0].password.matches(b"se#cret"));
    }

    #[test]
    fn listeners_are_named_and_the_last_word_counts() {
        let file = parse(
            "f",
            "listeners.tcp.default = 1\nlisteners.tcp.b = 127.0.0.1:2\nlisteners.tcp.default = 3\n",
        );
        let listeners: Vec<String> = file
            .expect("it is correct")
            .listeners
            .values()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(listeners, ["127.0.0.1:2", "[::]:3"]);
        let file = parse("f", "listeners.tcp.default = 1\nlisteners.tcp = none\n");
        assert!(file.expect("it is correct").listeners.is_empty());
    }

    #[test]
    fn sockets_and_the_log_are_read() {
        let file = parse(
            "f",
            "tcp_listen_options.backlog = 9\ntcp_listen_options.nodelay = false\nlog.console.level = debug\n",
        );
        let file = file.expect("it is correct");
        assert_eq!(
            (file.backlog, file.nodelay, file.log_level),
            (Some(9), Some(false), Some(LogLevel::Debug))
        );
    }

    #[test]
    fn the_limits_of_alarms_are_bytes_or_fractions_of_ram() {
        let limits = |text: &str| {
            let file = parse("f", text).expect("it is correct");
            let default = Amount::Bytes(7);
            (file.memory_limit.or(default), file.disk_limit.or(default))
        };
        assert_eq!(
            limits("vm_memory_high_watermark.relative = 0.4\n"),
            (Amount::OfRam(0.4), Amount::Bytes(7))
        );
        assert_eq!(
            limits("vm_memory_high_watermark.absolute = 2GB\ndisk_free_limit.relative = 1.5\n"),
            (Amount::Bytes(2_000_000_000), Amount::OfRam(1.5))
        );
        let both = "disk_free_limit.relative = 1.5\ndisk_free_limit.absolute = 1\n";
        assert_eq!(limits(both).1, Amount::Bytes(1));
        assert_eq!(
            settings(both).1,
            ["disk_free_limit.relative has no effect beside disk_free_limit.absolute"]
        );
    }

    #[test]
    fn a_default_queue_type_is_one_of_three() {
        for value in ["quorum", "rabbit_quorum_queue"] {
            let (settings, warnings) = settings(&format!("default_queue_type = {value}\n"));
            assert_eq!(settings.default_queue_type.as_deref(), Some("quorum"));
            assert!(warnings.is_empty(), "{warnings:?}");
        }
        assert_eq!(
            mistake("default_queue_type = odd\n"),
            "f line 1: default_queue_type: expected classic, quorum or stream, not 'odd'"
        );
    }

    #[test]
    fn a_known_key_without_effect_is_named_in_a_warning() {
        let (_, warnings) = settings(
            "vm_memory_high_watermark_paging_ratio = 0.5\ncluster_name = rabbit\nmanagement.tcp.port = 15672\n\
             log.file.level = info\nlisteners.ssl.default = 5671\ntcp_listen_options.keepalive = true\n\
             queue_leader_locator = balanced\n",
        );
        assert_eq!(
            warnings,
            [
                "f line 1: vm_memory_high_watermark_paging_ratio has no effect here",
                "f line 2: cluster_name has no effect here",
                "f line 3: management.tcp.port has no effect here",
                "f line 4: log.file.level has no effect here",
                "f line 5: listeners.ssl.default has no effect here",
                "f line 6: tcp_listen_options.keepalive has no effect here",
                "f line 7: queue_leader_locator has no effect here",
            ]
        );
    }

    #[test]
    fn keys_of_rabbitmqs_plugins_and_of_its_past_do_no_harm() {
        for key in [
            "amqp1_0.default_user",
            "auth_cache.cache_ttl",
            "aws.prefer_imdsv2",
            "cluster_partition_handling.pause_if_all_down.recover",
            "default_worker_pool_size",
            "delegate_count",
            "erlang.K",
            "event_exchange.vhost",
            "hipe_compile",
            "message_store_shutdown_timeout",
            "mirroring_sync_batch_size",
            "motd_file",
            "product.name",
            "socket_writer.gc_threshold",
            "sysmon_handler.triggers.port",
            "tcp_listen_options",
            "trust_store.ssl_options.verify",
            "vhost_restart_strategy",
            "web_mqtt.tcp.port",
            "web_stomp.ws_path",
        ] {
            let warnings = settings(&format!("{key} = none\n")).1;
            assert_eq!(warnings, [format!("f line 1: {key} has no effect here")]);
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert_eq!(
            mistake("\nhartbeat = 1\n"),
            "unknown key 'hartbeat' in f line 2"
        );
        assert_eq!(
            mistake("default_users.a.pass = 1"),
            "unknown key 'default_users.a.pass' in f line 1"
        );
        assert_eq!(
            mistake("connection_maximum = 1"),
            "unknown key 'connection_maximum' in f line 1"
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_what_was_expected() {
        for (text, expected) in [
            (
                "heartbeat = abc",
                "heartbeat: expected seconds from 0 to 65535, not 'abc'",
            ),
            (
                "heartbeat = 65536",
                "heartbeat: expected seconds from 0 to 65535, not '65536'",
            ),
            (
                "frame_max = 4095",
                "frame_max: expected 0 or bytes from 4096 to 16777216, not '4095'",
            ),
            (
                "channel_max = -1",
                "channel_max: expected channels from 0 to 65535, not '-1'",
            ),
            (
                "consumer_timeout = 0",
                "consumer_timeout: expected milliseconds from 1 to 315360000000, not '0'",
            ),
            (
                "handshake_timeout = 0",
                "handshake_timeout: expected milliseconds from 1 to 3600000, not '0'",
            ),
            (
                "max_message_size = 1MB",
                "max_message_size: expected bytes from 1 to 536870912, not '1MB'",
            ),
            (
                "listeners.tcp.default = here",
                "listeners.tcp.default: expected a port or an address and a port, such as 127.0.0.1:5672, not 'here'",
            ),
            (
                "listeners.tcp = all",
                "listeners.tcp: expected none, not 'all'",
            ),
            (
                "loopback_users = all",
                "loopback_users: expected none, not 'all'",
            ),
            (
                "loopback_users.guest = no",
                "loopback_users.guest: expected true or false, not 'no'",
            ),
            (
                "tcp_listen_options.backlog = x",
                "tcp_listen_options.backlog: expected connections from 1 to 65535, not 'x'",
            ),
            (
                "tcp_listen_options.nodelay = x",
                "tcp_listen_options.nodelay: expected true or false, not 'x'",
            ),
            (
                "log.console.level = loud",
                "log.console.level: expected debug, info, warning, error, critical or none, not 'loud'",
            ),
            (
                "vm_memory_high_watermark.absolute = much",
                "vm_memory_high_watermark.absolute: expected bytes, or a size such as 50MB or 2GiB, not 'much'",
            ),
            (
                "vm_memory_high_watermark.relative = 2",
                "vm_memory_high_watermark.relative: expected a fraction of RAM from 0.0 to 1.0, such as 0.6, not '2'",
            ),
            (
                "disk_free_limit.absolute = 50MX",
                "disk_free_limit.absolute: expected bytes, or a size such as 50MB or 2GiB, not '50MX'",
            ),
            (
                "default_users.a.vhost_pattern = (",
                "default_users.a.vhost_pattern: expected a regular expression (unclosed group), not '('",
            ),
            (
                "default_pass = encrypted:x",
                "default_pass: expected a password in the clear, not an encrypted one",
            ),
            ("heartbeat", "expected `key = value`"),
            ("heartbeat = ", "expected `key = value`"),
            ("heartbeat = # 5", "expected `key = value`"),
            ("default_pass = 'x", "default_pass: expected a closing '"),
            (
                "default_pass = 'x' y",
                "default_pass: expected nothing behind the closing '",
            ),
        ] {
            assert_eq!(mistake(text), format!("f line 1: {expected}"));
        }
        let long = "v".repeat(256);
        let expected = format!("f line 1: vhosts.1: expected at most 255 bytes, not '{long}'");
        assert_eq!(mistake(&format!("vhosts.1 = {long}")), expected);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(Path::new("/nonexistent/leveret.conf")).expect_err("it isn't there");
        let expected = "cannot read configuration file /nonexistent/leveret.conf: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), expected);
    }
}
