//! What administrators define, besides exchanges, queues and bindings: vhosts, users, permissions,
//! parameters, policies. Each thing is as RabbitMQ's definitions.json has it
//! (<https://www.rabbitmq.com/docs/definitions>), which is also how the definition log keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base::Name;
use crate::model::arguments::QueueType;
use crate::model::default_queue_type;
use crate::model::policy::PolicyKind;

/// A thing that an administrator defined.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the types say what they are")]
pub enum Administered {
    Vhost(Vhost),
    User(User),
    Permission(Permission),
    TopicPermission(TopicPermission),
    Parameter(Parameter),
    GlobalParameter(GlobalParameter),
    Policy(Policy),
    OperatorPolicy(Policy),
}

/// A vhost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vhost {
    /// Its name.
    pub name: Name,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What queues are that are declared without `x-queue-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
}

/// Who may log in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// As given in SASL.
    pub name: Name,
    /// In base64: 4 bytes of salt, and the digest of them and the password; of bcrypt as `$2b$…`. Empty: nobody
    /// logs in so.
    #[serde(default)]
    pub password_hash: String,
    /// `rabbit_password_hashing_` and the digest's name, or `lavinmq_bcrypt`.
    #[serde(default = "default_hashing_algorithm")]
    pub hashing_algorithm: String,
    /// `administrator`, `impersonator` and the like.
    #[serde(default, deserialize_with = "tags")]
    pub tags: Vec<String>,
    /// `max-connections` and `max-channels`; less than 0 is none.
    #[serde(default, deserialize_with = "limits")]
    pub limits: BTreeMap<String, i64>,
}

/// What a user may do in a vhost, as regular expressions for names of queues and exchanges.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permission {
    /// Who.
    pub user: Name,
    /// Where.
    pub vhost: Name,
    /// What may be created and deleted.
    pub configure: String,
    /// What messages may be put into.
    pub write: String,
    /// What messages may be taken from.
    pub read: String,
}

/// With which routing keys a user may use a topic exchange, as regular expressions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicPermission {
    /// Who.
    pub user: Name,
    /// Where.
    pub vhost: Name,
    /// On which exchange.
    pub exchange: Name,
    /// What may be published with.
    pub write: String,
    /// What may be bound with.
    pub read: String,
}

/// A parameter of a vhost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parameter {
    /// Where.
    pub vhost: Name,
    /// What it is for, such as [`VHOST_LIMITS`].
    pub component: Name,
    /// Its name.
    pub name: Name,
    /// What the component makes of it.
    pub value: Value,
}

/// The component of the parameter `limits`: `max-connections` and `max-queues` of a vhost.
pub const VHOST_LIMITS: &str = "vhost-limits";

/// A parameter of the whole broker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GlobalParameter {
    /// Its name.
    pub name: Name,
    /// Whatever it is.
    pub value: Value,
}

/// Arguments for the queues and exchanges whose names match.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Where.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// A regular expression for the names.
    pub pattern: String,
    /// `queues`, `exchanges`, `all`, `classic_queues`, `quorum_queues`, `streams`.
    #[serde(rename = "apply-to", default = "default_apply_to")]
    pub apply_to: String,
    /// Arguments by name, without `x-`: always an object.
    pub definition: Value,
    /// The highest that matches counts.
    #[serde(default)]
    pub priority: i64,
}

fn default_hashing_algorithm() -> String {
    "rabbit_password_hashing_sha256".to_owned()
}

fn default_apply_to() -> String {
    "all".to_owned()
}

/// A list, or as before RabbitMQ 3.8 one text with commas.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Tags::deserialize(deserializer)? {
        Tags::List(tags) => tags,
        Tags::Text(text) => text
            .split(',')
            .map(|tag| tag.trim().to_owned())
            .filter(|tag| !tag.is_empty())
            .collect(),
    })
}

/// An object; none of them may also be the empty list.
fn limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Limits {
        Some(BTreeMap<String, i64>),
        None([(); 0]),
    }
    Ok(match Limits::deserialize(deserializer)? {
        Limits::Some(limits) => limits,
        Limits::None([]) => BTreeMap::new(),
    })
}

/// All that administrators defined, each thing once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Administration {
    vhosts: BTreeMap<Name, Vhost>,
    users: BTreeMap<Name, User>,
    /// By user and vhost.
    permissions: BTreeMap<(Name, Name), Permission>,
    /// By user, vhost and exchange.
    topic_permissions: BTreeMap<(Name, Name, Name), TopicPermission>,
    /// By vhost, component and name.
    parameters: BTreeMap<(Name, Name, Name), Parameter>,
    global_parameters: BTreeMap<Name, GlobalParameter>,
    /// By vhost and name.
    policies: BTreeMap<(Name, Name), Policy>,
    operator_policies: BTreeMap<(Name, Name), Policy>,
}

impl Administration {
    /// Defines a thing, or defines it anew.
    pub fn set(&mut self, thing: Administered) {
        match thing {
            Administered::Vhost(vhost) => {
                self.vhosts.insert(vhost.name.clone(), vhost);
            }
            Administered::User(user) => {
                self.users.insert(user.name.clone(), user);
            }
            Administered::Permission(permission) => {
                let key = (permission.user.clone(), permission.vhost.clone());
                self.permissions.insert(key, permission);
            }
            Administered::TopicPermission(permission) => {
                let (user, vhost) = (permission.user.clone(), permission.vhost.clone());
                let key = (user, vhost, permission.exchange.clone());
                self.topic_permissions.insert(key, permission);
            }
            Administered::Parameter(parameter) => {
                let (vhost, component) = (parameter.vhost.clone(), parameter.component.clone());
                let key = (vhost, component, parameter.name.clone());
                self.parameters.insert(key, parameter);
            }
            Administered::GlobalParameter(parameter) => {
                self.global_parameters
                    .insert(parameter.name.clone(), parameter);
            }
            Administered::Policy(policy) => {
                let key = (policy.vhost.clone(), policy.name.clone());
                self.policies.insert(key, policy);
            }
            Administered::OperatorPolicy(policy) => {
                let key = (policy.vhost.clone(), policy.name.clone());
                self.operator_policies.insert(key, policy);
            }
        }
    }

    /// Takes a policy away; one that isn't there changes nothing.
    pub fn clear_policy(&mut self, kind: PolicyKind, vhost: &Name, name: &Name) {
        let policies = match kind {
            PolicyKind::User => &mut self.policies,
            PolicyKind::Operator => &mut self.operator_policies,
        };
        policies.remove(&(vhost.clone(), name.clone()));
    }

    /// Each thing, what others refer to first.
    pub fn things(&self) -> impl Iterator<Item = Administered> {
        let vhosts = self.vhosts().cloned().map(Administered::Vhost);
        let users = self.users().cloned().map(Administered::User);
        let permissions = self.permissions().cloned().map(Administered::Permission);
        let topics = self.topic_permissions().cloned();
        let parameters = self.parameters().cloned().map(Administered::Parameter);
        let globals = self.global_parameters().cloned();
        let policies = self.policies().cloned().map(Administered::Policy);
        let operators = self.operator_policies().cloned();
        vhosts
            .chain(users)
            .chain(permissions)
            .chain(topics.map(Administered::TopicPermission))
            .chain(parameters)
            .chain(globals.map(Administered::GlobalParameter))
            .chain(policies)
            .chain(operators.map(Administered::OperatorPolicy))
    }

    /// By name.
    pub fn vhosts(&self) -> impl Iterator<Item = &Vhost> {
        self.vhosts.values()
    }

    /// What queues of a vhost are that are declared without a type, if the vhost is defined and says it.
    pub fn default_queue_type(&self, vhost: &Name) -> Option<QueueType> {
        let name = self.vhosts.get(vhost)?.default_queue_type.as_deref()?;
        default_queue_type::parse(name)
    }

    /// By name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// By user and vhost.
    pub fn permissions(&self) -> impl Iterator<Item = &Permission> {
        self.permissions.values()
    }

    /// By user, vhost and exchange.
    pub fn topic_permissions(&self) -> impl Iterator<Item = &TopicPermission> {
        self.topic_permissions.values()
    }

    /// By vhost, component and name.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.values()
    }

    /// By name.
    pub fn global_parameters(&self) -> impl Iterator<Item = &GlobalParameter> {
        self.global_parameters.values()
    }

    /// Users' policies, by vhost and name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// Operators' policies, by vhost and name.
    pub fn operator_policies(&self) -> impl Iterator<Item = &Policy> {
        self.operator_policies.values()
    }

    /// The vhosts that are defined, and those that something here is in.
    pub fn vhost_names(&self) -> impl Iterator<Item = &Name> {
        let mut names: BTreeSet<_> = self.vhosts.keys().collect();
        names.extend(self.permissions().map(|permission| &permission.vhost));
        names.extend(self.topic_permissions().map(|permission| &permission.vhost));
        names.extend(self.parameters().map(|parameter| &parameter.vhost));
        names.extend(self.policies().map(|policy| &policy.vhost));
        names.extend(self.operator_policies().map(|policy| &policy.vhost));
        names.into_iter()
    }
}

impl Administered {
    /// A policy of that kind.
    pub fn policy(kind: PolicyKind, policy: Policy) -> Self {
        match kind {
            PolicyKind::User => Self::Policy(policy),
            PolicyKind::Operator => Self::OperatorPolicy(policy),
        }
    }
}

impl fmt::Display for Administered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vhost(Vhost { name, .. }) => write!(f, "vhost '{name}'"),
            Self::User(User { name, .. }) => write!(f, "user '{name}'"),
            Self::Permission(Permission { user, vhost, .. }) => {
                write!(f, "permission of user '{user}' in vhost '{vhost}'")
            }
            Self::TopicPermission(TopicPermission {
                user,
                vhost,
                exchange,
                ..
            }) => write!(
                f,
                "topic permission of user '{user}' on exchange '{exchange}' in vhost '{vhost}'"
            ),
            Self::Parameter(Parameter {
                vhost,
                component,
                name,
                ..
            }) => write!(f, "parameter '{name}' of {component} in vhost '{vhost}'"),
            Self::GlobalParameter(GlobalParameter { name, .. }) => {
                write!(f, "global parameter '{name}'")
            }
            Self::Policy(Policy { vhost, name, .. }) => {
                write!(f, "policy '{name}' in vhost '{vhost}'")
            }
            Self::OperatorPolicy(Policy { vhost, name, .. }) => {
                write!(f, "operator policy '{name}' in vhost '{vhost}'")
            }
        }
    }
}
