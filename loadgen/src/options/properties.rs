//! The properties that all messages of a run carry: -f persistent, and what -mp says.

use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::types::{FieldTable, ShortString};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use super::pairs::{Pairs, Value};

/// Delivery mode 2 of AMQP: the message survives a restart.
const PERSISTENT: u8 = 2;

/// The properties of each message.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct MessageProperties {
    given: Pairs,
    #[serde(skip)]
    pub(crate) amqp: AMQPProperties,
}

impl MessageProperties {
    /// PerfTest's names for the properties of AMQP; any other name is that of a header. A
    /// deliveryMode counts for more than -f persistent.
    pub(super) fn new(given: Pairs, persistent: bool) -> Result<Self> {
        let mut amqp = AMQPProperties::default();
        if persistent {
            amqp = amqp.with_delivery_mode(PERSISTENT);
        }
        let mut headers = FieldTable::default();
        for (name, value) in given.iter() {
            let set = set_property(amqp.clone(), name, value);
            match set.with_context(|| format!("-mp {name}={value}"))? {
                Some(with_it) => amqp = with_it,
                None => {
                    headers.insert(short(name)?, value.to_amqp());
                }
            }
        }
        if !headers.inner().is_empty() {
            amqp = amqp.with_headers(headers);
        }
        Ok(Self { given, amqp })
    }
}

/// The same with one more, or `None` if AMQP has no property of this name.
fn set_property(
    properties: AMQPProperties,
    name: &str,
    value: &Value,
) -> Result<Option<AMQPProperties>> {
    let text = || short(&value.to_string());
    Ok(Some(match name {
        "contentType" => properties.with_content_type(text()?),
        "contentEncoding" => properties.with_content_encoding(text()?),
        "deliveryMode" => properties.with_delivery_mode(match value {
            Value::Long(mode @ 1..=2) => *mode as u8,
            _ => bail!("1 (transient) or 2 (persistent) is wanted"),
        }),
        "priority" => properties.with_priority(match value {
            Value::Long(priority @ 0..=255) => *priority as u8,
            _ => bail!("a number from 0 to 255 is wanted"),
        }),
        "correlationId" => properties.with_correlation_id(text()?),
        "replyTo" => properties.with_reply_to(text()?),
        "expiration" => properties.with_expiration(text()?),
        "messageId" => properties.with_message_id(text()?),
        "timestamp" => properties.with_timestamp(timestamp_s(&value.to_string())?),
        "type" => properties.with_type(text()?),
        "userId" => properties.with_user_id(text()?),
        "appId" => properties.with_app_id(text()?),
        "clusterId" => properties.with_cluster_id(text()?),
        "headers" => bail!("each header is given by its own name"),
        _ => return Ok(None),
    }))
}

fn short(text: &str) -> Result<ShortString> {
    ShortString::try_new(text).context("it is longer than the 255 bytes that AMQP allows")
}

/// Seconds since 1970.
fn timestamp_s(text: &str) -> Result<u64> {
    let time = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .context("a time such as 2026-11-23T01:30:00+00:00 is wanted")?;
    u64::try_from(time.unix_timestamp()).context("it is before 1970")
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use crate::options::tests::settings;

    #[test]
    fn properties_have_perftests_names_and_all_else_is_a_header() {
        let line = "lg throughput -f persistent -mp priority=5,contentType=text/plain,messageId=7,x=1 -mp y=z,timestamp=1970-01-02T01:00:00+01:00";
        let properties = settings(line).expect("valid").properties;
        let amqp = &properties.amqp;
        assert_eq!(*amqp.delivery_mode(), Some(2));
        assert_eq!(*amqp.priority(), Some(5));
        assert_eq!(amqp.content_type(), &Some("text/plain".into()));
        assert_eq!(amqp.message_id(), &Some("7".into()));
        assert_eq!(*amqp.timestamp(), Some(86_400));
        let headers = amqp.headers().as_ref().expect("two").inner();
        let expected = [
            ("x".into(), AMQPValue::LongLongInt(1)),
            ("y".into(), AMQPValue::LongString("z".into())),
        ];
        assert_eq!(*headers, expected.into());
        let printed = serde_json::to_value(&properties).expect("a map");
        assert_eq!(printed["priority"], 5);
    }

    #[test]
    fn a_delivery_mode_counts_for_more_than_a_flag() {
        let of = |line| settings(line).expect("valid").properties.amqp;
        let transient = of("lg throughput -f persistent -mp deliveryMode=1");
        assert_eq!(*transient.delivery_mode(), Some(1));
        assert_eq!(*of("lg throughput").delivery_mode(), None);
    }

    #[test]
    fn what_no_message_can_carry_is_refused() {
        let long = format!("replyTo={}", "r".repeat(256));
        for bad in [
            "priority=high",
            "priority=256",
            "priority=-1",
            "deliveryMode=3",
            "deliveryMode",
            "timestamp=yesterday",
            "timestamp=1969-01-01T00:00:00Z",
            "headers=x",
            &long,
            "=1",
        ] {
            let line = format!("lg throughput -mp {bad}");
            assert!(settings(&line).is_err(), "{bad}");
        }
    }
}
