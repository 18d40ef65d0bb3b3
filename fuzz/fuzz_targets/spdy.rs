//! Any bytes as those of a SPDY client, cut anywhere: `cargo +nightly fuzz run spdy`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((piece, bytes)) = input.split_first() else { return };
    ztlab_embedded::control_plane::apiserver::spdy::fuzz(bytes, usize::from(*piece));
});
