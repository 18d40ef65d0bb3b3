//! Any objects, JSON and one a line, as the cluster that NetworkPolicies are compiled for: `cargo +nightly fuzz run network_policy`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|objects: &[u8]| {
    ztlab_embedded::node::network_policy::fuzz(objects);
});
