//! The posture at the start of a lab, measured once and kept beside the journal: what a report compares with.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::posture::Matrix;

/// The file of the measurement at the start of the lab.
pub const START: &str = "posture-start.json";
/// The file of the last measurement, for a lab that does not run any more.
pub const LAST: &str = "posture-last.json";

/// Writes a measurement so that the file is whole or as it was.
///
/// # Errors
/// When it cannot be written.
pub fn keep(path: &Path, matrix: &Matrix) -> io::Result<()> {
    let new = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    let written = serde_json::to_vec(matrix)
        .map_err(io::Error::other)
        .and_then(|json| file.write_all(&json))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
