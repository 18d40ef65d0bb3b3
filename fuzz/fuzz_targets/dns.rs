//! Any bytes as DNS, in datagrams and on a connection: `cargo +nightly fuzz run dns`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_packet::fuzz_datagrams(53, input);
    ztlab_packet::fuzz_talk(53, true, input);
});
