//! Any bytes as a trust domain's bundle: `cargo +nightly fuzz run bundle`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_identity::fuzz_bundle(input);
});
