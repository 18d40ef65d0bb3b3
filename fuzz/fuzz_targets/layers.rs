//! Any bytes as frames of any link layer, so that fragments and connections form: `cargo +nightly fuzz run layers`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<Vec<u8>>)| {
    let (link, frames) = input;
    let links = [0, 1, 12, 101, 113, 276, u32::from(link)];
    ztlab_packet::fuzz_frames(links[usize::from(link) % links.len()], &frames);
});
