//! Any bytes as what a client sends over an upgraded connection, WebSocket or SPDY, cut anywhere; at their end it hangs up:
//! `cargo +nightly fuzz run streams`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ztlab_embedded::control_plane::apiserver::fuzz_streams;

fuzz_target!(|input: &[u8]| {
    let [way, piece, bytes @ ..] = input else { return };
    fuzz_streams(*way, usize::from(*piece), bytes);
});
