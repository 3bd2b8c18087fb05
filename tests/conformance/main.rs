//! What an AMQP 0-9-1 client sees of the broker, one chapter per subject, over real sockets.
//!
//! Each test's name is a sentence, and each runs with 1, 2 and 4 cores (`cargo test --test conformance on_2_cores`).
//! `LEVERET_PEER=127.0.0.1:5672 cargo test --test conformance on_1_core` runs the same against another broker, which
//! is how the expectations were checked: RabbitMQ 3.10.8 is the reference, and where the issue or a later RabbitMQ
//! says otherwise, the test says so.
//!
//! Nothing sleeps. That nothing arrives is shown by a round trip through the queue in question.

#[path = "../support/mod.rs"]
mod support;

mod acknowledge;
mod alarm;
mod bad_input;
mod channel;
mod confirm;
mod consumer_timeout;
mod dead_letter;
mod deduplicating_exchange;
mod deduplication;
mod definitions;
mod delayed;
mod deliver;
mod environment;
mod errors;
mod exchange;
mod exchange_types;
mod expiry;
mod flow;
mod foreign;
mod get;
mod handshake;
mod headers;
mod heartbeat;
mod length;
mod limits;
mod moving;
mod mutation;
mod permissions;
mod pipelining;
mod policies;
mod precedence;
mod publish;
mod queue;
mod queue_contents;
mod recent_history;
mod reply_to;
mod sender_selected;
mod shutdown;
mod slow_login;
mod surroundings;
mod topic;
mod tx;
