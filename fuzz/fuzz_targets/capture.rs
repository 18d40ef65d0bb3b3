//! Any bytes as a capture file: `cargo +nightly fuzz run capture`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    ztlab_packet::fuzz_capture(file);
});
