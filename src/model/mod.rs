//! What AMQP means: exchanges, bindings, queues, and who may create or delete what. PURE.
//!
//! Every core holds a full [`topology`]. The catalog (core 0) alone [`decide`]s on creating and
//! deleting; its changes are applied by all cores in the same order, with the same result.
//!
//! ```text
//!   topology, exchange            what there is, and where a message goes
//!   queue                         messages that wait, deliveries that are out, consumers
//!   decide, access                who may create and delete what
//!   arguments, name_rules, expiration, default_queue_type     what a declaration may say
//!   policy                        rules from outside, by the names of queues and exchanges
//!   dead_letter, sender_selected, deduplication               what headers of a message mean
//!   definition, administration    what is declared, and what administrators define
//!   definition_record, definitions, definitions_json          the same in the log, at the start, in RabbitMQ's file
//! ```

pub mod access;
pub mod administration;
pub mod arguments;
pub mod dead_letter;
pub mod decide;
pub mod deduplication;
pub mod default_queue_type;
pub mod definition;
pub mod definition_record;
pub mod definitions;
pub mod definitions_json;
pub mod exchange;
pub mod expiration;
pub mod name_rules;
pub mod policy;
pub mod queue;
pub mod sender_selected;
pub mod topology;

pub use access::Access;
pub use administration::Administration;
pub use definition::{Change, QueueDefinition};
pub use definition_record::DefinitionRecord;
pub use definitions::{Definitions, ImportContext, ImportError};
pub use definitions_json::DefinitionsFile;
pub use topology::Topology;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use crate::base::Name;

/// How the tables here hash: fast, with a seed that is handed in, since clients choose the keys.
pub(crate) type Seeded = foldhash::fast::FixedState;

/// A table that is looked up by the bytes of a name, straight from a frame.
pub(crate) type NameMap<V> = HashMap<NameKey, V, Seeded>;

/// A name that hashes as its bytes do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NameKey(pub(crate) Name);

impl Hash for NameKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for NameKey {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
