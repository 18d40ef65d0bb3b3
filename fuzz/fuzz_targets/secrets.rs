//! Any text, searched for secrets: `cargo +nightly fuzz run secrets`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    ztlab_packet::fuzz_secrets(text);
});
