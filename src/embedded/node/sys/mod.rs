//! The one room with unsafe code: system calls that no safe crate wraps.
