//! What is left of a broker's state after its process has ended, in order or by `kill -9`: one chapter per way to end.
//!
//! Each test owns a data directory, and starts the real binary on it again and again; none of them needs another
//! product, so `LEVERET_PEER` means nothing here. `LEVERET_BINARY` names another binary than Cargo's.
//!
//! ```text
//! cargo test --test durability                                the whole, about 10 kills under load
//! cargo test --test durability restart::                      what comes back, after a stop and after a kill
//! LEVERET_KILL_CYCLES=1000 cargo test --release --test durability kill:: -- --nocapture
//! LEVERET_FILLS=100 cargo test --release --test durability again_and_again -- --nocapture
//! LEVERET_FILLS=1 LEVERET_FULL_S=600 cargo test --release --test durability again_and_again -- --nocapture
//! LEVERET_DISK_FAILURES=100 cargo test --release --test durability failing_disk -- --nocapture
//! ```
//!
//! What RabbitMQ guarantees is asked for, and where Leveret promises more (order, exact flags after a stop) that too.
//! Acknowledgements are the one thing that a kill may undo, within 100 ms: tests that kill wait for a confirm behind
//! them, which no broker can give before it has logged what came earlier.

#[path = "../support/mod.rs"]
mod support;

mod cores;
mod damage;
mod data_dir;
mod failing_disk;
mod full_disk;
mod kill;
mod ledger;
mod lives;
mod load;
mod restart;
mod small_disk;
