//! Holds the code to the layers of the crate's map: a module imports only from its own layer or below.
//!
//! Composition (`lib.rs`, `main.rs`, `images.rs`) may name everything; nothing may name composition.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const LAYERS: &[(u8, &[&str])] = &[
    (6, &["cli", "tui", "report", "author"]),
    (5, &["session", "seats"]),
    (4, &["probe", "capture", "check", "posture", "spire"]),
    (3, &["cluster"]),
    (2, &["embedded"]),
    (1, &["catalog", "handshake", "identity", "policy"]),
    (0, &["lab", "evidence", "verdict", "score", "packet", "paths", "text"]),
];

/// The side room: what runs inside pods. It may use these; only faces that list it may use it.
const STANDINS_MAY_USE: &[&str] = &["standins", "handshake", "identity", "policy", "packet"];
const MAY_USE_STANDINS: &[&str] = &["cli", "tui"];

const COMPOSITION: &[&str] = &["lib.rs", "main.rs", "images.rs"];

/// Parts of the embedded cluster that meet only at the API server.
const COMPONENTS: &[&str] = &[
    "control_plane/controllers",
    "control_plane/scheduler",
    "node/kubelet",
    "node/kube_proxy",
    "node/network_policy",
    "dns",
];

fn source_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The file without its comments and without its tests, which may look wherever they like.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    text.lines()
        .map(|line| match line.find("//") {
            // `https://` inside a string is no comment.
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Top-level rooms that `text` names through `crate::…`, braces included.
fn rooms_named(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if depth == 0 && c == ':' {
                    if !word.is_empty() {
                        found.push(std::mem::take(&mut word));
                    }
                    word.push('\u{0}');
                } else if depth == 0 && c == ',' {
                    if !word.is_empty() && !word.starts_with('\u{0}') {
                        found.push(word.clone());
                    }
                    word.clear();
                }
            }
            if !word.is_empty() && !word.starts_with('\u{0}') {
                found.push(word);
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.retain(|room| !room.is_empty() && !room.starts_with('\u{0}'));
    found
}

fn layer(room: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(_, rooms)| rooms.contains(&room))
        .map(|(layer, _)| *layer)
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if COMPOSITION.contains(&file.as_str()) {
            continue;
        }
        let here = room_of(&file);
        if matches!(here, "embedded" | "identity" | "packet") || file.starts_with("standins/spire/") {
            // Crates of their own: the compiler holds them, as long as their manifests name none of ours.
            continue;
        }
        for named in rooms_named(&code(&text)) {
            if named == here {
                continue;
            }
            let allowed = if here == "standins" {
                STANDINS_MAY_USE.contains(&named.as_str())
            } else if named == "standins" {
                MAY_USE_STANDINS.contains(&here)
            } else {
                match (layer(here), layer(&named)) {
                    (Some(here), Some(named)) => named <= here,
                    (Some(_), None) => false,
                    (None, _) => panic!("{file}: the room `{here}` is not in the map of tests/architecture.rs"),
                }
            };
            if !allowed {
                wrong.push(format!("{file} imports crate::{named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn crates_of_their_own_depend_on_none_of_the_rooms() {
    for member in ["embedded", "identity", "packet"] {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{member}/Cargo.toml"));
        let manifest = fs::read_to_string(manifest).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        assert!(
            !dependencies.contains("ztlab"),
            "src/{member} depends on another member:\n{dependencies}"
        );
    }
    let spire =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/standins/spire/Cargo.toml")).unwrap();
    let ours: Vec<&str> = spire.lines().filter(|line| line.starts_with("ztlab-")).collect();
    assert_eq!(
        ours,
        ["ztlab-identity.workspace = true"],
        "the stand-ins of SPIRE use identity only"
    );
}

#[test]
fn components_meet_only_at_the_api_server() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(here) = COMPONENTS
            .iter()
            .find(|part| file.starts_with(&format!("embedded/{part}")))
        else {
            continue;
        };
        let text = code(&text);
        for other in COMPONENTS.iter().filter(|other| *other != here) {
            let path = other.replace('/', "::");
            let last = other.rsplit('/').next().unwrap();
            for form in [
                format!("crate::{path}"),
                format!("super::super::{path}"),
                format!("super::{last}::"),
            ] {
                if text.contains(&form) {
                    wrong.push(format!("{file} names {other}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "components that call each other:\n{}",
        wrong.join("\n")
    );
}

/// The cluster's own parts have roles; who may do everything is the API server itself and whom it gives a certificate to.
#[test]
fn no_part_of_the_cluster_may_do_everything() {
    let may = [
        "embedded/control_plane/apiserver/",
        "embedded/control_plane/pki/",
        "embedded/control_plane/rbac/",
    ];
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(file, _)| !may.iter().any(|room| file.starts_with(room)))
        .filter(|(_, text)| {
            let code = code(text);
            ["system:masters", "UserInfo::master", "MASTERS"]
                .iter()
                .any(|name| code.contains(name))
        })
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "system:masters outside the API server: {wrong:?}");
}

#[test]
fn unsafe_code_stays_in_the_sys_room() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(file, _)| !file.starts_with("embedded/node/sys/"))
        .filter(|(_, text)| code(text).contains("allow(unsafe_code"))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "unsafe code outside embedded/node/sys: {wrong:?}");
}

#[test]
fn banned_crates_stay_out() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for banned in ["rustables", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(
            !lock.contains(&format!("name = \"{banned}\"")),
            "{banned} is in Cargo.lock (see the book's decisions)"
        );
    }
}

#[test]
fn the_import_reader_reads_imports() {
    let text = "use crate::{lab::Lab, packet::{Message, Leak}, score};\nuse crate::verdict::Verdict;\nlet x = crate::evidence::X;";
    let mut rooms = rooms_named(text);
    rooms.sort();
    assert_eq!(rooms, ["evidence", "lab", "packet", "score", "verdict"]);
}
