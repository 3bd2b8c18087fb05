//! Records of what administrators defined: an object of RabbitMQ's definitions.json each, as JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ADMINISTERED, MalformedRecord, Reader};
use crate::model::administration::Administered;
use crate::model::policy::PolicyKind;

const VHOST: u8 = 1;
const USER: u8 = 2;
const PERMISSION: u8 = 3;
const TOPIC_PERMISSION: u8 = 4;
const PARAMETER: u8 = 5;
const GLOBAL_PARAMETER: u8 = 6;
const POLICY: u8 = 7;
const OPERATOR_POLICY: u8 = 8;

pub(super) fn put(out: &mut Vec<u8>, thing: &Administered) {
    match thing {
        Administered::Vhost(vhost) => put_object(out, VHOST, vhost),
        Administered::User(user) => put_object(out, USER, user),
        Administered::Permission(permission) => put_object(out, PERMISSION, permission),
        Administered::TopicPermission(permission) => {
            put_object(out, TOPIC_PERMISSION, permission);
        }
        Administered::Parameter(parameter) => put_object(out, PARAMETER, parameter),
        Administered::GlobalParameter(parameter) => put_object(out, GLOBAL_PARAMETER, parameter),
        Administered::Policy(policy) => put_object(out, POLICY, policy),
        Administered::OperatorPolicy(policy) => put_object(out, OPERATOR_POLICY, policy),
    }
}

pub(super) fn category(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::User => POLICY,
        PolicyKind::Operator => OPERATOR_POLICY,
    }
}

fn put_object(out: &mut Vec<u8>, category: u8, object: &impl Serialize) {
    let json = serde_json::to_vec(object).expect("its keys are texts and writing to memory works");
    out.extend_from_slice(&[ADMINISTERED, category]);
    let length = u32::try_from(json.len()).expect("definitions are read from a file below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&json);
}

impl Reader<'_> {
    pub(super) fn administered(&mut self) -> Result<Administered, MalformedRecord> {
        let part = "category";
        Ok(match self.byte(part)? {
            VHOST => Administered::Vhost(self.object()?),
            USER => Administered::User(self.object()?),
            PERMISSION => Administered::Permission(self.object()?),
            TOPIC_PERMISSION => Administered::TopicPermission(self.object()?),
            PARAMETER => Administered::Parameter(self.object()?),
            GLOBAL_PARAMETER => Administered::GlobalParameter(self.object()?),
            POLICY => Administered::Policy(self.object()?),
            OPERATOR_POLICY => Administered::OperatorPolicy(self.object()?),
            value => return Err(MalformedRecord::UnknownValue { part, value }),
        })
    }

    pub(super) fn policy_kind(&mut self) -> Result<PolicyKind, MalformedRecord> {
        let part = "category";
        match self.byte(part)? {
            POLICY => Ok(PolicyKind::User),
            OPERATOR_POLICY => Ok(PolicyKind::Operator),
            value => Err(MalformedRecord::UnknownValue { part, value }),
        }
    }

    fn object<T: DeserializeOwned>(&mut self) -> Result<T, MalformedRecord> {
        let part = "object";
        let length = u32::from_le_bytes(self.array(part)?);
        let json = self.take(length as usize, part)?;
        serde_json::from_slice(json)
            .map_err(|error| MalformedRecord::InvalidObject(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::DefinitionRecord;
    use super::*;
    use crate::base::Name;
    use crate::model::administration::{
        GlobalParameter, Parameter, Permission, Policy, TopicPermission, User, VHOST_LIMITS, Vhost,
    };
    use crate::model::definition::Change;
    use crate::model::definitions::{Definitions, records};
    use crate::model::topology::Topology;

    fn policy(priority: i64) -> Policy {
        Policy {
            vhost: Name::from("v"),
            name: Name::from("p"),
            pattern: "^a".to_owned(),
            apply_to: "queues".to_owned(),
            definition: serde_json::json!({"max-length": 3, "overflow": "reject-publish"}),
            priority,
        }
    }

    fn one_of_each() -> Vec<Administered> {
        let name = Name::from;
        vec![
            Administered::Vhost(Vhost {
                name: name("v"),
                description: "größer".to_owned(),
                tags: vec!["t".to_owned()],
                default_queue_type: Some("quorum".to_owned()),
            }),
            Administered::User(User {
                name: name("u"),
                password_hash: "+pHuxkR9fCyrrwXjOD4BP4XbzO3l8LJr8YkThMgJ0yVHFRE+".to_owned(),
                hashing_algorithm: "rabbit_password_hashing_sha256".to_owned(),
                tags: vec!["administrator".to_owned()],
                limits: [("max-channels".to_owned(), 5)].into(),
            }),
            Administered::Permission(Permission {
                user: name("u"),
                vhost: name("v"),
                configure: String::new(),
                write: "^a".to_owned(),
                read: ".*".to_owned(),
            }),
            Administered::TopicPermission(TopicPermission {
                user: name("u"),
                vhost: name("v"),
                exchange: name("amq.topic"),
                write: "^{username}".to_owned(),
                read: ".*".to_owned(),
            }),
            Administered::Parameter(Parameter {
                vhost: name("v"),
                component: name(VHOST_LIMITS),
                name: name("limits"),
                value: serde_json::json!({"max-queues": 7}),
            }),
            Administered::GlobalParameter(GlobalParameter {
                name: name("cluster_name"),
                value: serde_json::json!("hare"),
            }),
            Administered::Policy(policy(1)),
            Administered::OperatorPolicy(policy(2)),
        ]
    }

    fn encoded(thing: &Administered) -> Vec<u8> {
        let mut bytes = Vec::new();
        DefinitionRecord::Administered(thing.clone()).encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_nothing_less_or_more() {
        for thing in one_of_each() {
            let mut bytes = encoded(&thing);
            for length in 0..bytes.len() {
                let cut = DefinitionRecord::decode(&bytes[..length]);
                assert!(matches!(cut, Err(MalformedRecord::Truncated(_))), "{cut:?}");
            }
            let read = DefinitionRecord::decode(&bytes);
            assert_eq!(read, Ok(DefinitionRecord::Administered(thing)));
            bytes.push(0);
            let read = DefinitionRecord::decode(&bytes);
            assert_eq!(read, Err(MalformedRecord::TooLong(1)));
        }
    }

    #[test]
    fn an_object_that_is_not_of_its_category_is_named() {
        let error = |bytes: &[u8]| {
            DefinitionRecord::decode(bytes)
                .expect_err("malformed")
                .to_string()
        };
        assert_eq!(
            error(b"\x08\x09\0\0\0\0"),
            "a definition record has 9 for its category"
        );
        assert_eq!(
            error(b"\x08\x01\x02\0\0\0{}"),
            "the object in a definition record: missing field `name` at line 1 column 2"
        );
    }

    #[test]
    fn what_administrators_defined_comes_back_with_its_vhosts_and_the_last_word_counts() {
        let mut definitions = Definitions::new(1);
        let first = Administered::Policy(policy(9));
        for thing in [first].into_iter().chain(one_of_each()) {
            definitions.apply(DefinitionRecord::Administered(thing));
        }
        let vhosts: Vec<_> = definitions.vhosts().cloned().collect();
        assert_eq!(vhosts, [Name::from("v")]);
        let mut topology = Topology::new(&vhosts, 1);
        assert!(definitions.restore(&mut topology).is_empty());
        let expected = one_of_each().into_iter();
        let found: Vec<_> = records(&topology).collect();
        assert_eq!(
            found,
            expected
                .map(DefinitionRecord::Administered)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_policy_that_was_taken_away_stays_away() {
        let (vhost, name) = (Name::from("v"), Name::from("p"));
        let change = Change::ClearPolicy {
            kind: PolicyKind::User,
            vhost: vhost.clone(),
            name,
        };
        let mut topology = Topology::new(&[vhost], 1);
        let mut definitions = Definitions::new(1);
        for thing in one_of_each() {
            definitions.apply(DefinitionRecord::Administered(thing));
        }
        let record = DefinitionRecord::of(&change, &topology).expect("it is written down");
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let read = DefinitionRecord::decode(&bytes);
        assert_eq!(read.as_ref(), Ok(&record));
        definitions.apply(record);
        assert!(definitions.restore(&mut topology).is_empty());
        assert_eq!(topology.administration().policies().count(), 0);
        assert_eq!(topology.administration().operator_policies().count(), 1);
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_left_out_with_a_line_that_says_why() {
        let bad = Policy {
            apply_to: "everything".to_owned(),
            ..policy(1)
        };
        let mut definitions = Definitions::new(1);
        definitions.apply(DefinitionRecord::Administered(Administered::Policy(bad)));
        let mut topology = Topology::new(&[Name::from("v")], 1);
        let lines = definitions.restore(&mut topology);
        let start = "policy 'p' in vhost 'v': apply-to 'everything' unrecognised";
        assert!(lines[0].starts_with(start), "{lines:?}");
    }
}
