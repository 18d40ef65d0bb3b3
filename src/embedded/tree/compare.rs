//! Whether two trees hold the same.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::Stat;

use super::{DEPTH, Entry, TreeError, entry, failed, names, top};

/// Bytes that are compared at once.
const BLOCK: usize = 128 << 10;

/// Whether the trees at two paths hold the same files: names, modes, groups, times and, byte by byte, content. What is there
/// while it is written to may be said to be the same as it was a moment before.
///
/// # Errors
/// The kernel's.
pub fn same(one: &Path, other: &Path) -> Result<bool, TreeError> {
    let (Some(a), Some(b)) = (top(one)?, top(other)?) else {
        return Ok(false);
    };
    let mut blocks = (vec![0; BLOCK], vec![0; BLOCK]);
    entries(&a, &b, None, DEPTH, &mut blocks).map_err(failed(one))
}

/// Whether two directories hold the same, whatever they are themselves.
///
/// # Errors
/// The kernel's.
fn directories(one: &OwnedFd, other: &OwnedFd, depth: usize, blocks: &mut (Vec<u8>, Vec<u8>)) -> io::Result<bool> {
    let mut all: BTreeSet<_> = names(one)?.into_iter().collect();
    all.extend(names(other)?);
    for name in all {
        let is_same = match (entry(one, &name)?, entry(other, &name)?) {
            (None, None) => true,
            (Some(a), Some(b)) => entries(&a, &b, Some((one, other, &name)), depth, blocks)?,
            _ => false,
        };
        if !is_same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn kept(stat: &Stat) -> (u32, u32) {
    (stat.st_mode, stat.st_gid)
}

fn entries(
    one: &Entry,
    other: &Entry,
    at: Option<(&OwnedFd, &OwnedFd, &std::ffi::CStr)>,
    depth: usize,
    blocks: &mut (Vec<u8>, Vec<u8>),
) -> io::Result<bool> {
    match (one, other) {
        // Who is deeper than what is copied is not the same as any copy.
        (Entry::Directory(..), Entry::Directory(..)) if depth == 0 => Ok(false),
        (Entry::Directory(a, a_is), Entry::Directory(b, b_is)) => {
            Ok(kept(a_is) == kept(b_is) && directories(a, b, depth - 1, blocks)?)
        }
        (Entry::File(a, a_is), Entry::File(b, b_is)) => {
            let shape = |stat: &Stat| (kept(stat), stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
            Ok(shape(a_is) == shape(b_is) && contents(a, b, blocks)?)
        }
        (Entry::Link(_), Entry::Link(_)) => {
            let Some((one, other, name)) = at else { return Ok(false) };
            let target = |dir: &OwnedFd| rustix::fs::readlinkat(dir, name, Vec::new());
            Ok(target(one)? == target(other)?)
        }
        _ => Ok(false),
    }
}

fn fill(mut file: &File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn contents(one: &File, other: &File, blocks: &mut (Vec<u8>, Vec<u8>)) -> io::Result<bool> {
    let (a, b) = blocks;
    loop {
        let (first, second) = (fill(one, a)?, fill(other, b)?);
        if a[..first] != b[..second] {
            return Ok(false);
        }
        if first == 0 {
            return Ok(true);
        }
    }
}
