//! The write-ahead log: batches, segments, group commit as a state machine, recovery. PURE.
//!
//! What its records say is the business of whoever writes them; here they are bytes with a tag, and
//! some have an LSN, by which they are found again and kept as long as they are needed.
//!
//! ```text
//!   layout    what the bytes are: segment headers, batches, records (varint: their numbers)
//!   segment   one life of a file
//!   commit    which batch is written where, which segment is given up
//!   reading   which piece is read for a record, and whose survivors are written again
//!   recovery  what a log holds after a stop
//!   disk      what all that asks of the disk
//! ```
//!
//! Not here: retries of writes. A write that fails or is short, and a sync that fails, end the process; nothing
//! is confirmed after it, and recovery finds what was. That is the only way to know what is on the
//! disk (PostgreSQL learnt it in 2018, "fsyncgate").

mod commit;
mod disk;
mod layout;
mod reading;
mod recovery;
mod segment;
mod varint;

#[cfg(test)]
mod tests;

pub use commit::{Log, Room};
pub use disk::{DiskRequest, FileNumber, Image, LogName, Placed, ReadError, ReadId};
pub use layout::{BLOCK, BatchWriter, RECORD_OVERHEAD, Record};
pub use reading::{Located, Stretch};
pub use recovery::{Found, RecoveryError, recover};
pub use varint::{VARINT_MAX, take_varint, varint_len};
