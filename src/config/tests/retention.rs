//! Retention: accepted values, and how it depends on other keys.

use super::*;
use crate::store::config::RetentionConfig;
use crate::values::size::ByteSize;

const KEY: &str = "exporters.postgres.retention";

#[test]
fn retention_is_read_with_its_units() {
    let set = format!("{KEY}={{max_age: 720h, max_size: 50GiB, drop_when_disk_is_full: true}}");
    let expected = RetentionConfig {
        max_age: GoDuration(Duration::from_secs(30 * 86_400)),
        max_size: ByteSize(50 << 30),
        drop_when_disk_is_full: true,
    };
    assert_eq!(minimal(&[&set], &none).unwrap().exporter.retention, expected);
    let hour = ["exporters.postgres.partition=hour", &format!("{KEY}={{max_age: 1h, max_size: 1000}}")];
    assert_eq!(minimal(&hour, &none).unwrap().exporter.retention.max_size, ByteSize(1000));
}

#[test]
fn retention_needs_partitions_of_its_own() {
    let refusal = minimal(&[&format!("{KEY}.max_age=48h"), "exporters.postgres.create_schema=false"], &none);
    let expected = "found create_schema: false, expected create_schema: true as well, since only the owner of partitions \
                    can drop them; or none of its keys";
    assert_eq!(refusal, Err(format!("{KEY}: {expected}")));
}
