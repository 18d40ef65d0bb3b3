//! Any text as a lab file: `cargo +nightly fuzz run lab`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ztlab::lab::{Layer, Surroundings};

fuzz_target!(|file: &[u8]| {
    let Ok(text) = std::str::from_utf8(file) else { return };
    if let Err(error) = ztlab::lab::parse("lab.yaml", text, Surroundings::of(&Layer::default())) {
        let told = error.to_string();
        assert!(!told.chars().any(|char| char.is_control() && char != '\n'), "{told:?}");
    }
});
