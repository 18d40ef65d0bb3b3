//! Any bytes as what is said on a connection that speaks HTTP: `cargo +nightly fuzz run http`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_packet::fuzz_talk(80, true, input);
});
