//! Definitions from RabbitMQ's definitions.json, and into it.
//!
//! What administrators define replaces what there was, as with RabbitMQ. A queue or an exchange that is
//! there already must be alike, since its messages and its users rely on it. Nothing of a file counts
//! if anything in it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Definitions, Place, is_predeclared};
use crate::amqp::table::Value;
use crate::base::settings::DefaultLimits;
use crate::base::{CoreId, Name};
use crate::model::access::{Password, QueueLimits};
use crate::model::administration::{Administered, Permission, Policy, User, VHOST_LIMITS};
use crate::model::arguments::{Arguments, ExchangeArguments, QueueArguments, QueueType};
use crate::model::default_queue_type;
use crate::model::definition::ExchangeKind;
use crate::model::definition_record::{
    DefinitionRecord, DurableBinding, DurableDestination, DurableExchange, DurableQueue,
};
use crate::model::definitions_json::{
    BindingEntry, DefinitionsFile, DestinationType, ExchangeEntry, QueueEntry, UserEntry,
    as_object, as_operator_policy, to_arguments, to_json,
};
use crate::model::exchange::{self, own_queue};
use crate::model::name_rules::is_reserved;

/// What is wrong with a file: which thing in it, and why.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{thing}: {reason}")]
pub struct ImportError {
    thing: String,
    reason: String,
}

/// What an import may rely on besides the file.
#[derive(Clone, Copy, Debug)]
pub struct ImportContext<'a> {
    /// Vhosts of the configuration.
    pub vhosts: &'a [Name],
    /// What vhosts may have that nothing else is said of.
    pub default_limits: &'a [DefaultLimits],
    /// What queues are of which neither their vhost nor the file says it.
    pub default_queue_type: Option<&'a str>,
    /// Users of the configuration.
    pub users: &'a [Name],
    /// New queues are spread over so many cores, at least 1.
    pub cores: u16,
    /// For the salt of passwords that stand in the clear: random and secret.
    pub seed: u64,
}

impl Definitions {
    /// Takes a file over. Returns a line for the operator for each thing that is left out. After an error
    /// the definitions are not to be used.
    ///
    /// # Errors
    /// The first thing that can't be as the file says.
    pub fn import(
        &mut self,
        file: DefinitionsFile,
        context: ImportContext<'_>,
    ) -> Result<Vec<String>, ImportError> {
        let mut queues = BTreeMap::new();
        for queue in self.declared_queues() {
            *queues.entry(queue.vhost.clone()).or_default() += 1;
        }
        let mut import = Import {
            queues,
            queue_limits: QueueLimits::default(),
            definitions: self,
            vhosts: BTreeSet::new(),
            users: context.users.iter().cloned().collect(),
            context,
            left_out: Vec::new(),
        };
        import.administered(&file)?;
        import.queue_limits = QueueLimits::new(
            &import.vhosts,
            context.default_limits,
            &import.definitions.administration,
        );
        for exchange in file.exchanges {
            import.exchange(exchange)?;
        }
        for queue in file.queues {
            import.queue(queue)?;
        }
        for binding in file.bindings {
            import.binding(binding)?;
        }
        Ok(import.left_out)
    }

    /// All queues but those that are exchanges' own.
    fn declared_queues(&self) -> impl Iterator<Item = &DurableQueue> {
        let is_declared = |queue: &&DurableQueue| own_queue::exchange_of(&queue.name).is_none();
        self.queues.iter().filter(is_declared)
    }

    /// All of it as a file, sorted, so that the same definitions make the same file.
    pub fn export(&self) -> DefinitionsFile {
        let mut queues: Vec<_> = self.declared_queues().collect();
        queues.sort_by_key(|queue| (&queue.vhost, &queue.name));
        let mut exchanges: Vec<_> = self.exchanges.iter().collect();
        exchanges.sort_by_key(|exchange| (&exchange.vhost, &exchange.name));
        let mut bindings: Vec<_> = self.bindings.all.iter().collect();
        bindings.sort_by_key(|binding| {
            let arguments = binding.arguments.table().as_bytes();
            let ends = (&binding.source, &binding.destination);
            (&binding.vhost, ends, &binding.routing_key, arguments)
        });
        let root = Name::from("/");
        let vhosts: BTreeSet<&Name> = self.vhosts().chain([&root]).collect();
        DefinitionsFile {
            queues: queues.into_iter().map(queue_entry).collect(),
            exchanges: exchanges.into_iter().map(exchange_entry).collect(),
            bindings: bindings.into_iter().map(binding_entry).collect(),
            ..DefinitionsFile::of(&self.administration, vhosts.into_iter())
        }
    }
}

/// A file on its way in.
struct Import<'a> {
    definitions: &'a mut Definitions,
    context: ImportContext<'a>,
    /// That there will be.
    vhosts: BTreeSet<Name>,
    users: BTreeSet<Name>,
    /// How many queues each vhost has, without those of exchanges.
    queues: BTreeMap<Name, usize>,
    queue_limits: QueueLimits,
    left_out: Vec<String>,
}

impl Import<'_> {
    fn administered(&mut self, file: &DefinitionsFile) -> Result<(), ImportError> {
        for vhost in &file.vhosts {
            let vhost = vhost.clone().vhost();
            if let Some(name) = &vhost.default_queue_type
                && default_queue_type::parse(name).is_none()
            {
                let reason = format!("unknown queue type '{name}'");
                return Err(fault(&Administered::Vhost(vhost))(reason));
            }
            self.set(Administered::Vhost(vhost));
        }
        let named = self.definitions.vhosts().cloned();
        self.vhosts.extend(named);
        self.vhosts.extend(self.context.vhosts.iter().cloned());
        self.vhosts.insert(Name::from("/"));
        for user in &file.users {
            let user = self.user(user)?;
            self.set(Administered::User(user));
        }
        let stored = self.definitions.administration.users();
        self.users.extend(stored.map(|user| user.name.clone()));
        for permission in &file.permissions {
            self.permission(permission)?;
        }
        for permission in &file.topic_permissions {
            let thing = Administered::TopicPermission(permission.clone());
            permission.parse().map_err(fault(&thing))?;
            self.check_user(&thing, &permission.user)?;
            self.check_vhost(&thing, &permission.vhost)?;
            self.set(thing);
        }
        for parameter in file.parameters.iter().cloned() {
            let vhost = parameter.vhost.clone();
            let thing = match as_operator_policy(parameter) {
                Ok(Ok(policy)) => Administered::OperatorPolicy(checked(policy, true)?),
                Ok(Err(reason)) => return Err(fault(&"an operator policy")(reason)),
                Err(mut parameter) => {
                    if parameter.component.as_str() == VHOST_LIMITS {
                        parameter.value = as_object(parameter.value);
                    }
                    Administered::Parameter(parameter)
                }
            };
            self.check_vhost(&thing, &vhost)?;
            self.set(thing);
        }
        for parameter in &file.global_parameters {
            self.set(Administered::GlobalParameter(parameter.clone()));
        }
        for policy in &file.policies {
            let thing = Administered::Policy(checked(policy.clone(), false)?);
            self.check_vhost(&thing, &policy.vhost)?;
            self.set(thing);
        }
        Ok(())
    }

    fn set(&mut self, thing: Administered) {
        self.definitions.administration.set(thing);
    }

    fn user(&self, entry: &UserEntry) -> Result<User, ImportError> {
        let mut user = entry.user.clone();
        let thing = format!("user '{}'", user.name);
        if let Some(password) = &entry.password {
            if !user.password_hash.is_empty() {
                let reason = "it has both a password and the hash of one";
                return Err(fault(&thing)(reason.to_owned()));
            }
            user.password_hash = self.hash(&user.name, password);
            user.hashing_algorithm = "rabbit_password_hashing_sha256".to_owned();
        }
        Password::parse(&user.password_hash, &user.hashing_algorithm)
            .map_err(|unknown| fault(&thing)(unknown.to_string()))?;
        Ok(user)
    }

    fn hash(&self, user: &Name, password: &str) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.context.seed);
        hasher.write(user.as_bytes());
        let salt = (hasher.finish() as u32).to_le_bytes();
        let digest = Sha256::new()
            .chain_update(salt)
            .chain_update(password)
            .finalize();
        STANDARD.encode([&salt[..], &digest].concat())
    }

    fn permission(&mut self, permission: &Permission) -> Result<(), ImportError> {
        let thing = Administered::Permission(permission.clone());
        permission.parse().map_err(fault(&thing))?;
        self.check_user(&thing, &permission.user)?;
        self.check_vhost(&thing, &permission.vhost)?;
        self.set(thing);
        Ok(())
    }

    fn check_vhost(&self, thing: &impl fmt::Display, vhost: &Name) -> Result<(), ImportError> {
        if self.vhosts.contains(vhost) {
            return Ok(());
        }
        Err(fault(thing)(format!("there is no vhost '{vhost}'")))
    }

    fn check_user(&self, thing: &impl fmt::Display, user: &Name) -> Result<(), ImportError> {
        if self.users.contains(user) {
            return Ok(());
        }
        Err(fault(thing)(format!("there is no user '{user}'")))
    }

    fn leave_out(&mut self, thing: &impl fmt::Display, reason: &str) {
        self.left_out.push(format!("{thing} is left out: {reason}"));
    }

    fn exchange(&mut self, entry: ExchangeEntry) -> Result<(), ImportError> {
        let (vhost, name) = (entry.vhost, entry.name);
        let thing = format!("exchange '{name}' in vhost '{vhost}'");
        self.check_vhost(&thing, &vhost)?;
        if name.as_str().is_empty() || is_reserved(&name) {
            self.leave_out(&thing, "its name is reserved");
            return Ok(());
        }
        if !entry.durable {
            self.leave_out(&thing, TRANSIENT);
            return Ok(());
        }
        let kind = ExchangeKind::from_name(&entry.kind)
            .ok_or_else(|| fault(&thing)(format!("unknown exchange type '{}'", entry.kind)))?;
        let arguments = to_arguments(&entry.arguments).map_err(fault(&thing))?;
        ExchangeArguments::parse(&arguments)
            .map_err(|error| fault(&thing)(error.of("exchange", &name, &vhost).to_string()))?;
        let place: Place = (vhost.clone(), name.clone());
        let exchange = DurableExchange {
            vhost,
            name,
            kind,
            auto_delete: entry.auto_delete,
            internal: entry.internal,
            arguments,
        };
        if let Some(there) = self.definitions.exchanges.get(&place) {
            let alike = there.kind == exchange.kind
                && there.auto_delete == exchange.auto_delete
                && there.internal == exchange.internal
                && same_arguments(&there.arguments, &exchange.arguments);
            return alike.then_some(()).ok_or_else(|| unlike(&thing));
        }
        exchange::check_arguments(exchange.kind, &exchange.arguments)
            .map_err(|error| fault(&thing)(error.to_string()))?;
        if let Some(arguments) = own_queue::arguments(exchange.kind, &exchange.arguments) {
            let name = own_queue::name(&exchange.name);
            self.new_queue(exchange.vhost.clone(), name, false, arguments);
        }
        self.definitions.apply(DefinitionRecord::Exchange(exchange));
        Ok(())
    }

    fn queue(&mut self, entry: QueueEntry) -> Result<(), ImportError> {
        let (vhost, name) = (entry.vhost, entry.name);
        let thing = format!("queue '{name}' in vhost '{vhost}'");
        self.check_vhost(&thing, &vhost)?;
        if is_reserved(&name) {
            self.leave_out(&thing, "its name is reserved");
            return Ok(());
        }
        if name.as_str().is_empty() {
            return Err(fault(&thing)("it has no name".to_owned()));
        }
        if !entry.durable {
            self.leave_out(&thing, TRANSIENT);
            return Ok(());
        }
        let mut arguments = entry.arguments;
        if let (Some(kind), Some(fields)) = (&entry.queue_type, arguments.as_object_mut())
            && kind != "classic"
        {
            let kind = serde_json::Value::String(kind.clone());
            fields.entry("x-queue-type").or_insert(kind);
        }
        let arguments = to_arguments(&arguments).map_err(fault(&thing))?;
        let place: Place = (vhost.clone(), name.clone());
        let there = self.definitions.queues.get(&place);
        let default_type = match (&entry.queue_type, there) {
            (Some(_), _) => None,
            // It stays what it is, whatever the default was when it was declared.
            (None, Some(there)) => Some(type_of(there)),
            (None, None) => self.default_type(&vhost),
        };
        let arguments = default_queue_type::applied(default_type, &arguments, !entry.auto_delete);
        QueueArguments::parse(&arguments)
            .map_err(|error| fault(&thing)(error.of("queue", &name, &vhost).to_string()))?;
        if let Some(there) = there {
            let alike = there.auto_delete == entry.auto_delete
                && same_arguments(&there.arguments, &arguments);
            return alike.then_some(()).ok_or_else(|| unlike(&thing));
        }
        let queues = self.queues.entry(vhost.clone()).or_default();
        self.queue_limits
            .check(&vhost, *queues, &name)
            .map_err(|error| fault(&thing)(error.to_string()))?;
        *queues += 1;
        self.new_queue(vhost, name, entry.auto_delete, arguments);
        Ok(())
    }

    fn default_type(&self, vhost: &Name) -> Option<QueueType> {
        let of_vhost = self.definitions.administration.default_queue_type(vhost);
        of_vhost.or_else(|| default_queue_type::parse(self.context.default_queue_type?))
    }

    fn new_queue(&mut self, vhost: Name, name: Name, auto_delete: bool, arguments: Arguments) {
        let incarnation = self.definitions.next_incarnation();
        let core = incarnation % u64::from(self.context.cores);
        self.definitions
            .apply(DefinitionRecord::Queue(DurableQueue {
                incarnation,
                vhost,
                name,
                auto_delete,
                owner: CoreId(core as u16),
                arguments,
            }));
    }

    fn binding(&mut self, entry: BindingEntry) -> Result<(), ImportError> {
        let destination = match entry.destination_type {
            DestinationType::Queue => DurableDestination::Queue(entry.destination),
            DestinationType::Exchange => DurableDestination::Exchange(entry.destination),
        };
        let mut binding = DurableBinding {
            vhost: entry.vhost,
            source: entry.source,
            destination,
            routing_key: entry.routing_key,
            arguments: Arguments::default(),
        };
        binding.arguments = to_arguments(&entry.arguments).map_err(fault(&binding))?;
        self.check_vhost(&binding, &binding.vhost)?;
        let Some(kind) = self.kind_of_exchange(&binding.vhost, &binding.source) else {
            self.leave_out(&binding, "its source is missing or transient");
            return Ok(());
        };
        let queue = match &binding.destination {
            DurableDestination::Queue(name) => {
                let place = (binding.vhost.clone(), name.clone());
                self.definitions.queues.get(&place)
            }
            DurableDestination::Exchange(_) => None,
        };
        let has_destination = match &binding.destination {
            DurableDestination::Queue(_) => queue.is_some(),
            DurableDestination::Exchange(name) => {
                self.kind_of_exchange(&binding.vhost, name).is_some()
            }
        };
        if !has_destination {
            self.leave_out(&binding, "its destination is missing or transient");
            return Ok(());
        }
        let place = (binding.vhost.clone(), binding.source.clone());
        let source = self.definitions.exchanges.get(&place);
        let of_source = source.map(|source| source.arguments.clone());
        exchange::check_binding(
            kind,
            &of_source.unwrap_or_default(),
            &binding.routing_key,
            &binding.arguments,
            queue.map(|queue| &queue.arguments),
        )
        .map_err(|error| fault(&binding)(error.to_string()))?;
        self.definitions.apply(DefinitionRecord::Binding(binding));
        Ok(())
    }

    /// None if there is no such exchange that can be bound.
    fn kind_of_exchange(&self, vhost: &Name, name: &Name) -> Option<ExchangeKind> {
        if is_predeclared(name) {
            return super::PREDECLARED
                .iter()
                .find(|(known, ..)| *known == name.as_str() && !known.is_empty())
                .map(|(_, kind, _)| *kind);
        }
        let place = (vhost.clone(), name.clone());
        self.definitions
            .exchanges
            .get(&place)
            .map(|exchange| exchange.kind)
    }
}

const TRANSIENT: &str = "it is transient, so it is its users' to declare";

fn fault(thing: &impl fmt::Display) -> impl Fn(String) -> ImportError {
    let thing = thing.to_string();
    move |reason| ImportError {
        thing: thing.clone(),
        reason,
    }
}

fn unlike(thing: &impl fmt::Display) -> ImportError {
    let reason = "there is one of that name already, with other properties or arguments";
    fault(thing)(reason.to_owned())
}

/// The policy, with its definition as an object.
fn checked(mut policy: Policy, is_operators: bool) -> Result<Policy, ImportError> {
    policy.definition = as_object(policy.definition);
    if policy.definition.is_object() {
        return Ok(policy);
    }
    let thing = match is_operators {
        true => Administered::OperatorPolicy(policy),
        false => Administered::Policy(policy),
    };
    Err(fault(&thing)("its definition is no object".to_owned()))
}

/// Whether all fields are equivalent, as for a redeclaration; a classic queue need not say that it is one.
fn same_arguments(one: &Arguments, other: &Arguments) -> bool {
    let is_said_by = |one: &Arguments, other: &Arguments| {
        let mut fields = one.table().fields();
        fields.all(|(name, value)| {
            let name = String::from_utf8_lossy(name);
            match other.get(&name) {
                Some(same) => value.is_equivalent(same),
                None => name == "x-queue-type" && value == Value::LongString(b"classic"),
            }
        })
    };
    is_said_by(one, other) && is_said_by(other, one)
}

fn type_of(queue: &DurableQueue) -> QueueType {
    QueueArguments::parse(&queue.arguments)
        .map(|arguments| arguments.queue_type)
        .unwrap_or_default()
}

fn queue_entry(queue: &DurableQueue) -> QueueEntry {
    QueueEntry {
        vhost: queue.vhost.clone(),
        name: queue.name.clone(),
        queue_type: Some(type_of(queue).name().to_owned()),
        durable: true,
        auto_delete: queue.auto_delete,
        arguments: to_json(&queue.arguments),
    }
}

fn exchange_entry(exchange: &DurableExchange) -> ExchangeEntry {
    ExchangeEntry {
        vhost: exchange.vhost.clone(),
        name: exchange.name.clone(),
        kind: exchange.kind.name().to_owned(),
        durable: true,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: to_json(&exchange.arguments),
    }
}

fn binding_entry(binding: &DurableBinding) -> BindingEntry {
    let (destination_type, destination) = match &binding.destination {
        DurableDestination::Queue(name) => (DestinationType::Queue, name),
        DurableDestination::Exchange(name) => (DestinationType::Exchange, name),
    };
    BindingEntry {
        vhost: binding.vhost.clone(),
        source: binding.source.clone(),
        destination: destination.clone(),
        destination_type,
        routing_key: binding.routing_key.clone(),
        arguments: to_json(&binding.arguments),
    }
}

#[cfg(test)]
mod tests;
