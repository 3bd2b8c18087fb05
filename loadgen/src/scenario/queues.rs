//! `queues`: many queues at once, each with a producer and a consumer of its own.
//!
//! Producers are channels, spread over few connections or over one each: what differs for the
//! broker is the number of queues, or that of sockets too.

use anyhow::Result;

use super::load::run_at;
use crate::options::Settings;
use crate::output::BULK_BYTES;

/// Runs it.
pub(super) fn run(settings: &Settings) -> Result<()> {
    run_at(BULK_BYTES, settings)
}
