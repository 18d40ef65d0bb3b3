//! Any bytes as a SPIFFE ID, its parts and rules over ids: `cargo +nightly fuzz run spiffe_id`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_identity::fuzz_id(input);
});
