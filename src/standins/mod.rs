//! The programs that run inside pods as images.

use std::{ffi::OsString, process::ExitCode};

/// An image that this binary answers for.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// The stand-in's name, as `ztlab images` lists it.
    pub name: &'static str,
    /// Image repositories it answers for, without tag.
    pub repositories: &'static [&'static str],
    /// One line: what it stands for.
    pub summary: &'static str,
    /// What of the image's command line and protocol it supports, an item a line.
    pub supports: &'static [&'static str],
    /// The image's `ENTRYPOINT`.
    pub entrypoint: &'static [&'static str],
    /// The image's `CMD`.
    pub cmd: &'static [&'static str],
    /// The image's `ENV`.
    pub env: &'static [(&'static str, &'static str)],
    /// Programs in its `/usr/local/bin`, links to this binary.
    pub programs: &'static [&'static str],
}

/// Every stand-in.
pub const ALL: &[Image] = &[];

/// Whether `program` is one of the programs of [`ALL`].
pub fn knows(program: &str) -> bool {
    ALL.iter().any(|image| image.programs.contains(&program))
}

/// Runs the program `program`.
pub fn main(_program: &str, _args: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
