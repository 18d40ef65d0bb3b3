//! The lab as it was when a session began: the session keeps a copy, and goes on with it whatever becomes of the lab's file.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{journal::Header, write};
use crate::catalog::Found;

/// The lab's own file.
const LAB: &str = "lab.yaml";
/// The manifests beside it, by their paths.
const FILES: &str = "files.json";

/// Keeps a lab in the session's directory.
///
/// # Errors
/// When it cannot be written.
pub fn keep(dir: &Path, found: &Found) -> io::Result<()> {
    write(&dir.join(FILES), &serde_json::to_vec(&found.files)?)?;
    write(&dir.join(LAB), found.text.as_bytes())
}

/// The lab that the session in `dir` is pinned to.
///
/// # Errors
/// When it was not kept, or is not the one that the journal is of.
pub fn kept(dir: &Path, header: &Header) -> io::Result<Found> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let path = dir.join(LAB);
    let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
    let files: BTreeMap<String, String> = match fs::read(dir.join(FILES)) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(named(&dir.join(FILES), error)),
    };
    let found = Found {
        id: header.lab.clone(),
        source: header.source.clone(),
        text,
        files,
    };
    if found.hash() == header.hash {
        return Ok(found);
    }
    let told = format!("{} is not the lab that this session began with", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, told))
}
