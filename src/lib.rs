//! Leveret: an AMQP 0-9-1 message broker, thread-per-core on io_uring, nothing shared between cores.
//!
//! The map of the house, bottom up. A room uses only rooms below it (`tests/tidy.rs` sees to that).
//! *Pure* rooms know no clock, socket, file, thread or randomness: they are called, run to
//! completion, and return, so that all of the broker but its runtime can be simulated.
//!
//! - [`base`]: identities, names, limits, a message as bytes. Pure.
//! - [`amqp`]: the wire: frames, methods, contents, tables, errors. Pure.
//! - [`log`]: the write-ahead log: batches, segments, group commit, recovery. Pure.
//! - [`model`]: what AMQP means: exchanges, queues, the topology, who may create what. Pure.
//! - [`mail`]: the only words spoken between cores. Pure.
//! - [`shard`]: one core's queues. Pure.
//! - [`session`]: one client's connection. Pure.
//! - [`broker`]: one core's share of all that, and the catalog on core 0. Pure.
//! - [`config`]: command line and configuration file.
//! - [`runtime`]: sockets, cores, rings, signals: the only room that knows glommio.

pub mod amqp;
pub mod base;
pub mod broker;
pub mod config;
pub mod log;
pub mod mail;
pub mod model;
pub mod runtime;
pub mod session;
pub mod shard;
