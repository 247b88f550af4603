//! Retention: accepted values, and the exact words of refusals.

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
fn what_cannot_be_kept_so_is_refused() {
    for (sets, expected) in [
        (
            &[".max_age=23h"][..],
            ".max_age: found 82800s, expected a partition's length (24h) or more, or 0s to keep all",
        ),
        (
            &[".max_age=30mo"],
            ".max_age: found \"30mo\", expected a duration with its unit (ns, us, ms, s, m, h, d, w), such as 200ms, 1m30s or 30d",
        ),
        (
            &[".max_size=50PB"],
            ".max_size: found \"50PB\", expected a size such as 50GiB or 512MiB (KiB, MiB, GiB, TiB; KB, MB, GB, TB are of 1000), or a number of bytes",
        ),
        (&[".maxage=1h"], ".maxage: unknown key; did you mean max_age?"),
        (
            &[".max_age=48h", "create_schema=false"],
            ": found create_schema: false, expected create_schema: true as well, since only the owner of partitions \
             can drop them; or none of its keys",
        ),
    ] {
        let sets: Vec<_> = sets
            .iter()
            .map(|set| {
                let dot = if set.starts_with('.') { KEY } else { "exporters.postgres." };
                format!("{dot}{set}")
            })
            .collect();
        let sets: Vec<_> = sets.iter().map(String::as_str).collect();
        assert_eq!(minimal(&sets, &none).unwrap_err(), format!("{KEY}{expected}"));
    }
    for (indexes, expected) in [
        ("[service, service]", ": found service twice, expected each index once"),
        ("[trace]", "[0]: found \"trace\", expected one of errors, service, trace_id, attributes, body"),
    ] {
        let refusal = minimal(&[&format!("exporters.postgres.indexes={indexes}")], &none).unwrap_err();
        assert_eq!(refusal, format!("exporters.postgres.indexes{expected}"));
    }
    let refusal = minimal(&["exporters.postgres.partition=week"], &none).unwrap_err();
    assert_eq!(refusal, "exporters.postgres.partition: found \"week\", expected one of day, hour");
}
