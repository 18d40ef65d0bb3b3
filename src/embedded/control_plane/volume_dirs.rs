//! The directory of PersistentVolumes: who takes volumes away or puts others in their place, does it alone.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::FlockOperation;

/// Keeps everybody else from taking volumes out of `volumes`, or putting others there, until it is dropped. Blocks.
///
/// # Errors
/// The kernel's.
pub fn lock(volumes: &Path) -> io::Result<File> {
    fs::create_dir_all(volumes)?;
    let dir = File::open(volumes)?;
    rustix::fs::flock(&dir, FlockOperation::LockExclusive)?;
    Ok(dir)
}
