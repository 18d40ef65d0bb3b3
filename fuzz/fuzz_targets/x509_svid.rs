//! Any bytes as the certificates of an X.509-SVID, verified: `cargo +nightly fuzz run x509_svid`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_identity::fuzz_certificates(input);
});
