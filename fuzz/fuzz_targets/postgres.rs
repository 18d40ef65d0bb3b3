//! Any bytes as what is said to and by a database, from its opening or met under way: `cargo +nightly fuzz run postgres`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let opened = input.first().is_some_and(|byte| byte & 1 == 0);
    ztlab_packet::fuzz_talk(5432, opened, input);
});
