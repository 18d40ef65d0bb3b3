//! Any bytes as what a workload sends to the socket of SPIRE's agent: `cargo +nightly fuzz run authority`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    ztlab_spire::fuzz_authority(input);
});
