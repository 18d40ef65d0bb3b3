//! Any bytes as a JWT-SVID, verified: `cargo +nightly fuzz run jwt_svid`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_identity::fuzz_jwt(input);
});
