//! Clients that others wrote: lapin and amqprs, each through a full round.

mod amqprs_client;
mod lapin_client;

use crate::support::PATIENCE;
use std::future::Future;

/// Runs a client's future to its end, within bounds.
fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let within = async { tokio::time::timeout(PATIENCE, client).await };
    runtime
        .expect("a runtime starts")
        .block_on(within)
        .expect("the client finishes in time")
}
