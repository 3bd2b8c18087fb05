//! RabbitMQ's definitions.json (<https://www.rabbitmq.com/docs/definitions>): read as its versions write
//! it, and written so that they read it.
//!
//! ```text
//! { "users": [..], "vhosts": [..], "permissions": [..], "topic_permissions": [..], "parameters": [..],
//!   "global_parameters": [..], "policies": [..], "queues": [..], "exchanges": [..], "bindings": [..] }
//! ```
//!
//! Operator policies are parameters of the component `operator_policy`. Versions before 3.12 write some
//! objects as lists of pairs.

mod values;

pub(super) use values::{to_arguments, to_json};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::Name;
use crate::model::administration::{
    Administration, GlobalParameter, Parameter, Permission, Policy, TopicPermission, User, Vhost,
};

/// The file, each list in its order. What is missing is empty.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the file's")]
pub struct DefinitionsFile {
    pub product_name: String,
    pub product_version: String,
    pub users: Vec<UserEntry>,
    pub vhosts: Vec<VhostEntry>,
    pub permissions: Vec<Permission>,
    pub topic_permissions: Vec<TopicPermission>,
    pub parameters: Vec<Parameter>,
    pub global_parameters: Vec<GlobalParameter>,
    pub policies: Vec<Policy>,
    pub queues: Vec<QueueEntry>,
    pub exchanges: Vec<ExchangeEntry>,
    pub bindings: Vec<BindingEntry>,
}

/// A user; in a file that was written by hand perhaps with a password in the clear.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserEntry {
    /// With the hash, or without.
    #[serde(flatten)]
    pub user: User,
    /// To be hashed.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
}

/// A vhost: its description and tags stand beside its name, in `metadata`, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VhostEntry {
    name: Name,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_queue_type: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
struct Metadata {
    description: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_queue_type: Option<String>,
}

impl VhostEntry {
    fn of(vhost: &Vhost) -> Self {
        let metadata = Metadata {
            description: Some(vhost.description.clone()),
            tags: Some(vhost.tags.clone()),
            default_queue_type: vhost.default_queue_type.clone(),
        };
        Self {
            name: vhost.name.clone(),
            description: metadata.description.clone(),
            tags: metadata.tags.clone(),
            default_queue_type: metadata.default_queue_type.clone(),
            metadata: Some(metadata),
        }
    }

    /// The vhost.
    pub fn vhost(self) -> Vhost {
        let metadata = self.metadata.unwrap_or_default();
        let queue_type = self.default_queue_type.or(metadata.default_queue_type);
        Vhost {
            name: self.name,
            description: self
                .description
                .or(metadata.description)
                .unwrap_or_default(),
            tags: self.tags.or(metadata.tags).unwrap_or_default(),
            // So Erlang prints that there is none.
            default_queue_type: queue_type.filter(|name| name != "undefined"),
        }
    }
}

/// A queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the file's")]
pub struct QueueEntry {
    pub vhost: Name,
    pub name: Name,
    /// `classic` and so on; `x-queue-type` says it as well, but for classic queues.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<String>,
    #[serde(default = "yes")]
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub arguments: Value,
}

/// An exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the file's")]
pub struct ExchangeEntry {
    pub vhost: Name,
    pub name: Name,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "yes")]
    pub durable: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub arguments: Value,
}

/// A binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the file's")]
pub struct BindingEntry {
    pub vhost: Name,
    pub source: Name,
    pub destination: Name,
    pub destination_type: DestinationType,
    #[serde(default = "no_key")]
    pub routing_key: Name,
    #[serde(default)]
    pub arguments: Value,
}

/// What a binding leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the file's")]
pub enum DestinationType {
    Queue,
    Exchange,
}

fn yes() -> bool {
    true
}

fn no_key() -> Name {
    Name::from("")
}

/// The component of parameters that are operator policies.
const OPERATOR_POLICY: &str = "operator_policy";

impl DefinitionsFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong first, and in which line.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The file, for people to read and for programs.
    pub fn write(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("its keys are texts and memory takes all");
        text.push('\n');
        text
    }

    /// A file with what administrators defined, and nothing else. `vhosts`: those that there are.
    pub fn of<'a>(administration: &Administration, vhosts: impl Iterator<Item = &'a Name>) -> Self {
        let users = administration.users().cloned();
        let vhosts = vhosts.map(|name| {
            let known = administration.vhosts().find(|vhost| vhost.name == *name);
            let unknown = || Vhost {
                name: name.clone(),
                description: String::new(),
                tags: vec![],
                default_queue_type: None,
            };
            VhostEntry::of(&known.cloned().unwrap_or_else(unknown))
        });
        let parameters = administration.parameters().cloned();
        let operator_policies = administration.operator_policies().map(as_parameter);
        Self {
            product_name: "Leveret".to_owned(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
            users: users
                .map(|user| UserEntry {
                    user,
                    password: None,
                })
                .collect(),
            vhosts: vhosts.collect(),
            permissions: administration.permissions().cloned().collect(),
            topic_permissions: administration.topic_permissions().cloned().collect(),
            parameters: parameters.chain(operator_policies).collect(),
            global_parameters: administration.global_parameters().cloned().collect(),
            policies: administration.policies().cloned().collect(),
            ..Self::default()
        }
    }
}

fn as_parameter(policy: &Policy) -> Parameter {
    Parameter {
        vhost: policy.vhost.clone(),
        component: Name::from(OPERATOR_POLICY),
        name: policy.name.clone(),
        value: json!({
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "definition": policy.definition,
            "priority": policy.priority,
        }),
    }
}

/// The operator policy that a parameter is, or that parameter.
///
/// # Errors
/// It should be one, and isn't.
pub(super) fn as_operator_policy(
    parameter: Parameter,
) -> Result<Result<Policy, String>, Parameter> {
    if parameter.component.as_str() != OPERATOR_POLICY {
        return Err(parameter);
    }
    let Value::Object(mut fields) = as_object(parameter.value) else {
        return Ok(Err("its value is no object".to_owned()));
    };
    fields.insert("vhost".to_owned(), json!(parameter.vhost));
    fields.insert("name".to_owned(), json!(parameter.name));
    let policy = serde_json::from_value(Value::Object(fields));
    Ok(policy.map_err(|error| error.to_string()))
}

/// An object that Erlang wrote as a list of pairs; anything else as it is.
pub(super) fn as_object(value: Value) -> Value {
    let Value::Array(pairs) = &value else {
        return value;
    };
    let mut object = Map::new();
    for pair in pairs {
        match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(name), inner]) => {
                object.insert(name.clone(), inner.clone());
            }
            _ => return value,
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vhost_is_described_beside_its_name_or_in_its_metadata() {
        let vhost = |json: Value| {
            let entry: VhostEntry = serde_json::from_value(json).expect("well-formed");
            let vhost = entry.vhost();
            (vhost.description, vhost.tags, vhost.default_queue_type)
        };
        let tags = vec!["t".to_owned()];
        let metadata = json!({"description": "d", "tags": ["t"], "default_queue_type": "quorum"});
        assert_eq!(
            vhost(json!({"name": "v", "limits": [["max-queues", 3]], "metadata": metadata})),
            ("d".to_owned(), tags.clone(), Some("quorum".to_owned()))
        );
        assert_eq!(
            vhost(json!({"name": "v", "description": "d", "tags": ["t"],
                "default_queue_type": "undefined"})),
            ("d".to_owned(), tags, None)
        );
        assert_eq!(vhost(json!({"name": "v"})), (String::new(), vec![], None));
    }

    #[test]
    fn an_operator_policy_is_a_parameter_even_if_erlang_wrote_it() {
        let parameter = |value: Value| Parameter {
            vhost: Name::from("/"),
            component: Name::from(OPERATOR_POLICY),
            name: Name::from("cap"),
            value,
        };
        let written = parameter(json!({"apply-to": "queues", "pattern": ".*", "priority": 1,
            "definition": [["max-length", 1000]]}));
        let policy = as_operator_policy(written)
            .expect("it is one")
            .expect("whole");
        assert_eq!(as_object(policy.definition), json!({"max-length": 1000}));
        let broken = as_operator_policy(parameter(json!({}))).expect("it should be one");
        assert_eq!(broken, Err("missing field `pattern`".to_owned()));
        let other = Parameter {
            component: Name::from("shovel"),
            ..parameter(json!(1))
        };
        assert_eq!(as_operator_policy(other.clone()), Err(other));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = DefinitionsFile::read(b"{\n  \"queues\": [{\"name\": \"q\"}]\n}");
        assert_eq!(
            error.expect_err("no vhost"),
            "missing field `vhost` at line 2 column 26"
        );
        let name = "n".repeat(256);
        let json = format!("{{\"vhosts\": [{{\"name\": \"{name}\"}}]}}");
        let error = DefinitionsFile::read(json.as_bytes()).expect_err("too long");
        assert!(
            error.starts_with("a name of 256 bytes is longer than 255"),
            "{error}"
        );
    }
}
