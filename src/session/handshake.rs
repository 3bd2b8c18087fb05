//! From accept to `connection.open-ok` (AMQP 0-9-1, 2.2.4), within one deadline for all of it.
//!
//! ```text
//! client: AMQP 0 0 9 1 ─► start ─► start-ok ─► tune ─► tune-ok, open ─► open-ok
//! ```

use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable, LongInt};

use super::connection::ClientCapabilities;
use super::{Phase, Session, SessionContext, sasl};
use crate::amqp::error::ConnectionError;
use crate::amqp::frame::{self, Frame, FrameKind};
use crate::amqp::method::{self, MethodId};
use crate::amqp::table::{Table, Value};
use crate::base::{Name, Time, limits};
use crate::model::access::{PasswordCheck, User};

/// A connection that isn't open yet.
pub(super) struct Handshake {
    stage: Stage,
    /// When it is given up.
    pub(super) deadline: Time,
    /// What has come of the protocol header.
    header: Vec<u8>,
    /// Whether a user has logged in.
    authenticated: bool,
    /// A password that isn't found right or wrong yet.
    pub(super) login: Option<Login>,
    /// Frames behind `start-ok` or `open` that wait for a password to be checked, or for the catalog to let the
    /// connection in.
    pub(super) deferred: Vec<u8>,
}

/// Somebody logs in.
pub(super) struct Login {
    user: Name,
    mechanism: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    ProtocolHeader,
    StartOk,
    TuneOk,
    Open,
}

impl Handshake {
    pub(super) fn new(deadline: Time) -> Self {
        Self {
            stage: Stage::ProtocolHeader,
            deadline,
            header: Vec::new(),
            authenticated: false,
            login: None,
            deferred: Vec::new(),
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated
    }
}

/// What RabbitMQ's clients look for before they use an extension.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

impl Session {
    /// Bytes of a connection that isn't open. Returns those behind the protocol header; none if it
    /// isn't complete, or wrong.
    pub(super) fn protocol_header<'a>(
        &mut self,
        bytes: &'a [u8],
        context: &mut SessionContext<'_>,
    ) -> Option<&'a [u8]> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return Some(bytes);
        };
        if handshake.stage != Stage::ProtocolHeader {
            return Some(bytes);
        }
        let missing = frame::PROTOCOL_HEADER.len() - handshake.header.len();
        let (header, rest) = bytes.split_at(missing.min(bytes.len()));
        handshake.header.extend_from_slice(header);
        let header = &handshake.header[..];
        // 0-9 as clients of its time announce it: the same on the wire.
        const AMQP_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";
        let known = [frame::PROTOCOL_HEADER, AMQP_0_9];
        if !known.iter().any(|known| known.starts_with(header)) {
            let out = self.connection.output.block();
            out.extend_from_slice(&frame::PROTOCOL_HEADER);
            self.close_now(context);
            return None;
        }
        if header.len() < frame::PROTOCOL_HEADER.len() {
            return None;
        }
        handshake.stage = Stage::StartOk;
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: self.server_properties(),
            mechanisms: "PLAIN AMQPLAIN".into(),
            locales: "en_US".into(),
        };
        self.send_connection(connection::AMQPMethod::Start(start));
        Some(rest)
    }

    fn server_properties(&self) -> FieldTable {
        let mut capabilities = FieldTable::default();
        for name in CAPABILITIES {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
        let mut properties = FieldTable::default();
        properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        for (name, text) in [
            ("product", "Leveret"),
            ("version", env!("CARGO_PKG_VERSION")),
            ("platform", "Rust on Linux io_uring"),
            ("copyright", "The authors of Leveret"),
            ("information", "AMQP 0-9-1, and RabbitMQ's extensions to it"),
            ("cluster_name", "leveret"),
        ] {
            properties.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        // Which core accepted the connection: the load generator places its clients by it.
        let core = LongInt::from(self.connection.id.core.0 as i16);
        properties.insert("leveret_core".into(), AMQPValue::LongInt(core));
        properties
    }

    /// A frame before `connection.open-ok`.
    pub(super) fn handshake_frame(&mut self, frame: &Frame<'_>, context: &mut SessionContext<'_>) {
        let Phase::Handshake(handshake) = &self.phase else {
            return;
        };
        let (stage, authenticated) = (handshake.stage, handshake.is_authenticated());
        let waiting = handshake.deferred.len() + frame.size();
        if handshake.login.is_some() && waiting > limits::FRAME_MIN as usize {
            return self.close_now(context);
        }
        if frame.kind == FrameKind::Heartbeat || self.waits_to_enter(frame) {
            return;
        }
        self.blamed = MethodId::of(frame.payload);
        let method = match method::decode(frame.payload) {
            Ok(method) if frame.kind == FrameKind::Method && frame.channel == 0 => method,
            Err(error) if authenticated => return self.fail(error, context),
            Ok(_) if authenticated => {
                return self.fail(
                    ConnectionError::UnexpectedFrame("expected a method of class connection"),
                    context,
                );
            }
            _ => return self.close_now(context),
        };
        use connection::AMQPMethod as M;
        match (stage, method.class) {
            (_, AMQPClass::Connection(M::Close(_))) => {
                self.send_close_ok();
                self.close_now(context);
            }
            (Stage::StartOk, AMQPClass::Connection(M::StartOk(start_ok))) => {
                self.start_ok(&start_ok, method.table, context);
            }
            (Stage::TuneOk, AMQPClass::Connection(M::TuneOk(tune_ok))) => {
                self.tune_ok(&tune_ok, context);
            }
            (Stage::Open, AMQPClass::Connection(M::Open(open))) => {
                self.open(open.virtual_host.as_str(), context);
            }
            _ if authenticated => {
                let error = ConnectionError::CommandInvalid("method out of order in the handshake");
                self.fail(error, context);
            }
            _ => self.close_now(context),
        }
    }

    fn start_ok(
        &mut self,
        start_ok: &connection::StartOk,
        client_properties: Table<'_>,
        context: &mut SessionContext<'_>,
    ) {
        self.connection.client = client_capabilities(client_properties);
        let mechanism = start_ok.mechanism.as_str();
        let response = start_ok.response.as_bytes();
        let Some(credentials) = sasl::read(mechanism, response) else {
            let error = ConnectionError::UnknownMechanism(mechanism.to_owned());
            return self.fail(error, context);
        };
        let access = context.topology.access();
        let check = credentials
            .as_ref()
            .and_then(|login| access.open_check(login.user, login.password))
            .filter(|(user, _)| self.loopback || !user.loopback_only);
        if let Some((user, check)) = check {
            return self.check_password(user, check, mechanism, context);
        }
        let user = credentials
            .and_then(|login| access.log_in(login.user, login.password))
            .filter(|user| self.loopback || !user.loopback_only);
        self.log_in(user, mechanism, context);
    }

    /// Has a password checked that takes long, unless too many are waiting for that.
    fn check_password(
        &mut self,
        user: &User,
        check: PasswordCheck,
        mechanism: &str,
        context: &mut SessionContext<'_>,
    ) {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return;
        };
        if context.password_checks.len() >= limits::PASSWORD_CHECKS_MAX {
            context
                .notices
                .add(|| "too many logins wait for their passwords to be checked".to_owned());
            return self.log_in(None, mechanism, context);
        }
        handshake.login = Some(Login {
            user: user.name.clone(),
            mechanism: mechanism.to_owned(),
        });
        context
            .password_checks
            .push_back((self.connection.id, check));
    }

    /// A password was checked.
    pub fn password_checked(&mut self, is_right: bool, context: &mut SessionContext<'_>) {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return;
        };
        let (Some(login), Some(deferred)) = (handshake.login.take(), self.take_deferred()) else {
            return;
        };
        let user = context.topology.access().user(&login.user);
        self.log_in(user.filter(|_| is_right), &login.mechanism, context);
        self.handle_handshake(&deferred, context);
    }

    /// Somebody has logged in, or hasn't.
    fn log_in(&mut self, user: Option<&User>, mechanism: &str, context: &mut SessionContext<'_>) {
        if user.is_none() {
            context
                .notices
                .add(|| format!("login refused (mechanism {mechanism}): wrong user or password, or not from here"));
        }
        match user {
            Some(user) => self.authenticated(user, context),
            None if self.connection.client.authentication_failure_close => {
                self.blamed = MethodId::default();
                let error = ConnectionError::AccessRefused(format!(
                    "Login was refused using authentication mechanism {mechanism}. \
                     For details see the broker logfile."
                ));
                self.fail(error, context);
            }
            None => self.close_now(context),
        }
    }

    fn authenticated(&mut self, user: &User, context: &mut SessionContext<'_>) {
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.authenticated = true;
            handshake.stage = Stage::TuneOk;
        }
        self.connection.user = user.name.clone();
        self.connection.is_impersonator = user.is_impersonator;
        let tune = connection::Tune {
            channel_max: context.settings.channel_max,
            frame_max: context.settings.frame_max,
            heartbeat: context.settings.heartbeat_s,
        };
        self.send_connection(connection::AMQPMethod::Tune(tune));
    }

    fn tune_ok(&mut self, tune_ok: &connection::TuneOk, context: &mut SessionContext<'_>) {
        let offered = context.settings;
        let channel_max = u32::from(tune_ok.channel_max);
        let refusal = refusal(
            "frame_max",
            tune_ok.frame_max,
            offered.frame_max,
            limits::FRAME_MIN,
        )
        .or_else(|| {
            refusal(
                "channel_max",
                channel_max,
                u32::from(offered.channel_max),
                1,
            )
        });
        if let Some(text) = refusal {
            return self.fail(ConnectionError::NotAllowed(text), context);
        }
        self.connection.payload_max = tune_ok.frame_max - limits::FRAME_OVERHEAD as u32;
        self.connection.channel_max = tune_ok.channel_max;
        self.connection.heartbeat_s = tune_ok.heartbeat;
        self.heartbeat.set_interval(tune_ok.heartbeat, context.now);
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.stage = Stage::Open;
        }
    }

    fn open(&mut self, vhost_name: &str, context: &mut SessionContext<'_>) {
        let user = &self.connection.user;
        let refusal = match context.topology.vhost_by_name(vhost_name) {
            None => format!("vhost {vhost_name} not found"),
            Some(vhost) => {
                let access = context.topology.access();
                if access.may_open(user, context.topology.vhost_name(vhost)) {
                    return self.enter(vhost, context);
                }
                format!("access to vhost '{vhost_name}' refused for user '{user}'")
            }
        };
        self.fail(ConnectionError::NotAllowed(refusal), context);
    }

    /// The connection is in use from now on.
    pub(super) fn opened(&mut self, context: &SessionContext<'_>) {
        self.phase = Phase::Running;
        self.new_deadline = Some(context.now);
        let open_ok = connection::OpenOk {};
        self.send_connection(connection::AMQPMethod::OpenOk(open_ok));
    }

    fn send_connection(&mut self, method: connection::AMQPMethod) {
        self.connection.send(0, &AMQPClass::Connection(method));
    }
}

/// What is wrong with a client's answer to an offered limit, in RabbitMQ's words.
fn refusal(what: &str, answer: u32, offered: u32, least: u32) -> Option<String> {
    if answer == 0 {
        return Some(format!(
            "negotiated {what} = 0 (no limit) is higher than the maximum allowed value ({offered})"
        ));
    }
    if answer > offered {
        return Some(format!(
            "negotiated {what} = {answer} is higher than the maximum allowed value ({offered})"
        ));
    }
    (answer < least).then(|| {
        format!("negotiated {what} = {answer} is lower than the minimum allowed value ({least})")
    })
}

fn client_capabilities(client_properties: Table<'_>) -> ClientCapabilities {
    let Some(Value::Table(capabilities)) = client_properties.get("capabilities") else {
        return ClientCapabilities::default();
    };
    let has = |name| matches!(capabilities.get(name), Some(Value::Bool(true)));
    ClientCapabilities {
        authentication_failure_close: has("authentication_failure_close"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
    }
}
