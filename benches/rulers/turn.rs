//! How long the operations that the rulers count take, whole turns of one core without a socket among
//! them, and what they allocate.
//!
//! `cargo bench --bench turn`

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use leveret_rulers::{AT_SCALE, MESSAGES, OPERATIONS, Operation};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

#[divan::bench(args = OPERATIONS.into_iter().chain(AT_SCALE))]
fn operation(bencher: Bencher<'_, '_>, operation: &Operation) {
    let mut act = operation.prepare();
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .bench_local(act.as_mut());
}
