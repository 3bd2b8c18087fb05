//! How fast a log is read, to be looked at: `cargo test --release --lib log::tests::speed -- --ignored`.

use super::*;

/// An image of one large file, without copies of it.
#[test]
#[ignore = "a measurement: 1 GB of memory"]
fn a_gigabyte_of_small_records_is_recovered() {
    let (mut disk, mut log) = fresh();
    let payloads = vec![[5_u8; 127]; 8000];
    let payloads: Vec<&[u8]> = payloads.iter().map(|one| &one[..]).collect();
    for _ in 0..1000 {
        disk.append(&mut log, &payloads).expect("room");
    }
    let mut records = 0_u64;
    let mut bytes = 0;
    let mut image = Reading::new(&disk);
    recover(GROUP, &mut image, |record| {
        records += 1;
        bytes += record.payload.len();
    })
    .expect("it is ours");
    assert_eq!(records, 8_000_000);
    assert_eq!(bytes, 127 * 8_000_000);
}
