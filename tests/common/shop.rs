//! What tests of SPIRE and the shop share: their manifests, and waiting for them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

use super::lab::Lab;

/// The objects of a directory of manifests, as one text.
pub fn layer(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(name);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "yaml"));
    files.sort();
    let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    texts.join("\n---\n")
}

pub fn rolled_out(lab: &Lab, namespace: &str, objects: &[&str]) {
    for object in objects {
        lab.kubectl(&["rollout", "status", "-n", namespace, object, "--timeout=90s"]);
    }
}
