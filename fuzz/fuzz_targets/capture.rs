//! Any bytes as a capture file: `cargo +nightly fuzz run capture`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    for message in ztlab::packet::fuzz_capture(file) {
        assert!(!message.text.chars().any(|char| char.is_control() && char != '\n'));
        for leak in &message.leaks {
            assert!(message.text.get(leak.start..leak.end).is_some());
        }
    }
});
