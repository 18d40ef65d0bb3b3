//! Any text as a lab file, read and linted: `cargo +nightly fuzz run lab`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    ztlab::lab::fuzz(file);
});
