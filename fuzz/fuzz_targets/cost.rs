#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    forebay_fuzz::cost::check(data, std::time::Duration::from_micros(1));
});
