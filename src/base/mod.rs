//! The ground floor: identities, time as a number, names, limits, and a message as bytes. PURE.
//!
//! Nothing here knows AMQP's methods, a queue or a core's work; everything above may use it.

pub mod alarm;
pub mod bytes;
pub mod id;
pub mod limits;
pub mod message;
pub mod name;
pub mod notices;
pub mod pattern;
pub mod settings;
pub mod time;

pub use alarm::Alarms;
pub use id::{CoreId, ExchangeId, Lsn, QueueId, SessionId, VhostId};
pub use message::{MessageRef, StoredMessage};
pub use name::Name;
pub use notices::Notices;
pub use pattern::Pattern;
pub use settings::Settings;
pub use time::{Time, WallClock};
