//! What the tests over real sockets stand on: a broker process, and clients that behave or misbehave as asked.
//!
//! ```text
//! broker    starts the binary (or points at a reference), one shared broker per core count
//! home      a data directory and its configuration, on which one broker follows another
//! process   a child process whose output is kept, and that never outlives the tests
//! cores     the macro that runs a test with 1, 2 and 4 cores
//! login     the handshake, whole or step by step
//! client    a connection that behaves
//! channel   its channels: calls, answers, closes
//! messages  publish, confirm, consume, get, settle on a channel
//! socket    frames made into methods with content, in order
//! raw       a socket: any bytes out, frames in
//! ids       class and method ids
//! wire      frames and fields as bytes, well-formed or not
//! methods   amq-protocol's method structs under one trait
//! ```
// Each test crate that includes these rooms uses a part of them.
#![allow(dead_code, unused_imports, unused_macros)]

pub(crate) mod broker;
pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod cores;
pub(crate) mod home;
pub(crate) mod ids;
pub(crate) mod login;
mod messages;
pub(crate) mod methods;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod socket;
pub(crate) mod wire;

use std::time::Duration;

/// How long any single answer may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
