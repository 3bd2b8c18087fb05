//! The wire: AMQP 0-9-1 as bytes. PURE.
//!
//! The content path (publish, deliver, return, get-ok, ack, nack, reject, headers, bodies) is our own
//! and copies nothing it needn't. Every other method is read and written by the crate `amq-protocol`,
//! once [`method`] has checked its shape. Property lists and tables stay raw bytes until somebody asks.

pub mod content;
pub mod error;
pub mod frame;
pub mod method;
pub mod properties;
pub mod table;
