//! Any bytes as what is said on a connection that speaks TLS: `cargo +nightly fuzz run tls`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_packet::fuzz_talk(443, true, input);
});
