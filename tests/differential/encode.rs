//! Operations as frames. What a script says goes out as it stands: nothing is checked but its form.

use crate::script::Operation;
use crate::support::wire;
use crate::value::{Table, Value, write_table};

/// The properties of a message in the order of their flags, and whether each is a text.
pub(crate) const PROPERTIES: [(&str, Kind); 14] = [
    ("content-type", Kind::Text),
    ("content-encoding", Kind::Text),
    ("headers", Kind::Table),
    ("delivery-mode", Kind::Octet),
    ("priority", Kind::Octet),
    ("correlation-id", Kind::Text),
    ("reply-to", Kind::Text),
    ("expiration", Kind::Text),
    ("message-id", Kind::Text),
    ("timestamp", Kind::Timestamp),
    ("type", Kind::Text),
    ("user-id", Kind::Text),
    ("app-id", Kind::Text),
    ("cluster-id", Kind::Text),
];

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Table,
    Octet,
    Timestamp,
}

/// A method's name, ids, how many names it is told, and its flags in the order of their bits.
type Form = (&'static str, u16, u16, usize, &'static [&'static str]);

const FORMS: [Form; 29] = [
    ("channel.open", 20, 10, 0, &[]),
    ("channel.flow", 20, 20, 0, &["on"]),
    ("channel.close", 20, 40, 0, &[]),
    (
        "exchange.declare",
        40,
        10,
        2,
        &["passive", "durable", "auto-delete", "internal", "nowait"],
    ),
    ("exchange.delete", 40, 20, 1, &["if-unused", "nowait"]),
    ("exchange.bind", 40, 30, 3, &["nowait"]),
    ("exchange.unbind", 40, 40, 3, &["nowait"]),
    (
        "queue.declare",
        50,
        10,
        1,
        &["passive", "durable", "exclusive", "auto-delete", "nowait"],
    ),
    ("queue.bind", 50, 20, 3, &["nowait"]),
    ("queue.purge", 50, 30, 1, &["nowait"]),
    (
        "queue.delete",
        50,
        40,
        1,
        &["if-unused", "if-empty", "nowait"],
    ),
    ("queue.unbind", 50, 50, 3, &[]),
    ("basic.qos", 60, 10, 2, &["global"]),
    (
        "basic.consume",
        60,
        20,
        2,
        &["no-local", "no-ack", "exclusive", "nowait"],
    ),
    ("basic.cancel", 60, 30, 1, &["nowait"]),
    ("basic.publish", 60, 40, 3, &["mandatory", "immediate"]),
    ("basic.get", 60, 70, 1, &["no-ack"]),
    ("basic.ack", 60, 80, 1, &["multiple"]),
    ("basic.reject", 60, 90, 1, &["requeue"]),
    ("basic.recover-async", 60, 100, 0, &["requeue"]),
    ("basic.recover", 60, 110, 0, &["requeue"]),
    ("basic.nack", 60, 120, 1, &["multiple", "requeue"]),
    ("tx.select", 90, 10, 0, &[]),
    ("tx.commit", 90, 20, 0, &[]),
    ("tx.rollback", 90, 30, 0, &[]),
    ("confirm.select", 85, 10, 0, &["nowait"]),
    (
        "access.request",
        30,
        10,
        1,
        &["exclusive", "passive", "active", "write", "read"],
    ),
    ("connection.close", 10, 50, 0, &[]),
    ("connection.blocked", 10, 60, 1, &[]),
];

/// A method as it is called, its names and flags told apart. Fails with what is wrong with the script.
pub(crate) struct Call<'a> {
    form: &'static Form,
    pub(crate) names: &'a [String],
    flags: &'a [String],
    fields: &'a Table,
}

impl<'a> Call<'a> {
    pub(crate) fn of(operation: &'a Operation) -> Result<Self, String> {
        let form = FORMS.iter().find(|form| form.0 == operation.method);
        let form = form.ok_or_else(|| format!("unknown method in `{operation}`"))?;
        let names = operation.words.get(..form.3);
        let names = names.ok_or_else(|| format!("{} names are needed in `{operation}`", form.3))?;
        let flags = &operation.words[form.3..];
        match flags.iter().find(|flag| !form.4.contains(&flag.as_str())) {
            Some(flag) => Err(format!("unknown flag {flag} in `{operation}`")),
            None => Ok(Self {
                form,
                names,
                flags,
                fields: &operation.fields,
            }),
        }
    }

    pub(crate) fn method(&self) -> &'static str {
        self.form.0
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    /// The frames; numbers among the names, such as delivery tags, are numbers by now.
    pub(crate) fn frames(&self, channel: u16) -> Vec<u8> {
        let frame =
            |arguments: Vec<u8>| wire::raw_method(channel, self.form.1, self.form.2, &arguments);
        let name = |at: usize| wire::short_string(self.names[at].as_bytes());
        let number = |at: usize| self.names[at].parse::<u64>().unwrap_or(0).to_be_bytes();
        let ticket = || vec![0, 0];
        let bits = self.bits();
        let table = || self.table();
        let arguments: Vec<Vec<u8>> = match self.method() {
            "channel.open" => vec![wire::short_string(b"")],
            "channel.close" | "connection.close" => {
                vec![vec![0, 200], wire::short_string(b"bye"), vec![0; 4]]
            }
            "connection.blocked" => vec![name(0)],
            "access.request" => vec![name(0), bits],
            "exchange.declare" => vec![ticket(), name(0), name(1), bits, table()],
            "exchange.delete" | "queue.purge" | "queue.delete" | "basic.get" => {
                vec![ticket(), name(0), bits]
            }
            "exchange.bind" | "exchange.unbind" | "queue.bind" => {
                vec![ticket(), name(0), name(1), name(2), bits, table()]
            }
            "queue.unbind" => vec![ticket(), name(0), name(1), name(2), table()],
            "queue.declare" => vec![ticket(), name(0), bits, table()],
            "basic.qos" => vec![number(0)[4..].to_vec(), number(1)[6..].to_vec(), bits],
            "basic.consume" => vec![ticket(), name(0), name(1), bits, table()],
            "basic.cancel" => vec![name(0), bits],
            "basic.publish" => {
                return self.publish(channel, frame([ticket(), name(0), name(1), bits].concat()));
            }
            "basic.ack" | "basic.nack" | "basic.reject" => vec![number(0).to_vec(), bits],
            "channel.flow" | "basic.recover" | "basic.recover-async" | "confirm.select" => {
                vec![bits]
            }
            _ => vec![],
        };
        frame(arguments.concat())
    }

    fn bits(&self) -> Vec<u8> {
        let set = self
            .form
            .4
            .iter()
            .enumerate()
            .filter(|(_, flag)| self.has(flag));
        vec![set.fold(0, |bits, (at, _)| bits | 1 << at)]
    }

    fn table(&self) -> Vec<u8> {
        let mut bytes = vec![];
        write_table(self.fields, &mut bytes);
        bytes
    }

    fn publish(&self, channel: u16, method: Vec<u8>) -> Vec<u8> {
        let content = wire::content(channel, &self.properties(), self.names[2].as_bytes(), 4096);
        [method, content].concat()
    }

    /// Property flags and values; fields that begin with `h.` make the headers.
    fn properties(&self) -> Vec<u8> {
        let headers: Table = self
            .fields
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("h.")?.to_owned(), value.clone())))
            .collect();
        let mut flags = 0_u16;
        let mut values = vec![];
        for (at, (name, kind)) in PROPERTIES.iter().enumerate() {
            let given = self.fields.iter().find(|(key, _)| key == name);
            match (kind, given.map(|(_, value)| value)) {
                (Kind::Table, _) if !headers.is_empty() => write_table(&headers, &mut values),
                (Kind::Text, Some(Value::Text(text))) => values.extend(wire::short_string(text)),
                (Kind::Octet, Some(Value::Number(_, number))) => values.push(*number as u8),
                (Kind::Timestamp, Some(Value::Timestamp(time))) => {
                    values.extend(time.to_be_bytes())
                }
                _ => continue,
            }
            flags |= 0x8000 >> at;
        }
        [flags.to_be_bytes().to_vec(), values].concat()
    }
}
