//! Any bytes as the body of an API request, in each media type: `cargo +nightly fuzz run api_body`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ztlab_embedded::control_plane::api::decode;

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    let media = [
        "application/json",
        "application/yaml",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf",
    ];
    let _ = decode::body(media[usize::from(*kind) % media.len()], body);
});
