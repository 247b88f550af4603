//! What a request costs: no more memory than was asked for before, and no more time than its bytes are worth.

use std::time::Duration;

use allocation_counter::measure;
use forebay::otlp::{Limits, count_records};
use forebay::table::{Space, Transcoder, Untranscoded};

/// What is allocated besides: what the transcoder remembers of resources and scopes.
const REMEMBERED: u64 = 10 << 20;
/// The largest request that is tried.
const LARGEST: usize = 8 << 20;

/// Repeats the bytes behind the first two as often as these say, so that a small input becomes much structure, and makes rows
/// of it. Gives how many there are. A byte may take `of_a_byte` of a processor's time.
pub fn check(data: &[u8], of_a_byte: Duration) -> usize {
    let Some((times, part)) = data.split_first_chunk() else { return 0 };
    let times = usize::from(u16::from_be_bytes(*times)).min(LARGEST / part.len().max(1));
    let request = part.repeat(times);
    let transcoder = Transcoder::default();
    let (mut granted, mut rows, before) = (0, 0, processor_time());
    let taken = measure(|| {
        let Ok(records) = count_records(&request, &Limits::default()) else { return };
        let mut grow = |more: usize| {
            granted += more as u64;
            true
        };
        match transcoder.transcode(&request, records.min(10_000), 1, &mut Space::new(0, &mut grow)) {
            Ok(done) => rows = done.rows.len(),
            Err(Untranscoded::Malformed(malformed)) => panic!("it was counted: {malformed}"),
            Err(Untranscoded::NoSpace(_)) => panic!("all that was asked for was granted"),
        }
    });
    let most = granted + REMEMBERED;
    assert!(taken.bytes_max <= most, "{} bytes were allocated, {granted} were asked for", taken.bytes_max);
    let (time, length) = (processor_time() - before, request.len() as u32);
    let most = of_a_byte * length + Duration::from_millis(50);
    assert!(time <= most, "{time:?} for {length} bytes");
    rows
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}
