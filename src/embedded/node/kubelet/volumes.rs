//! Volumes that hold what the API says: ConfigMaps, Secrets, tokens, fields of the pod.
//!
//! [`content`] is pure; [`write`] puts it on disk so that a reader sees all of the old files or all of the new ones.
//!
//! Source: Kubernetes' "Volumes" and "Projected Volumes"; the layout (`..data`) is that of its atomic writer.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    CSIVolumeSource, ConfigMap, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, ProjectedVolumeSource,
    Secret, ServiceAccountTokenProjection, Volume,
};

use super::{
    env::{Facts, Sources, field, resource},
    fs_group,
};
use crate::control_plane::api::validate::quantity;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Files by their path in the volume.
pub type Files = BTreeMap<PathBuf, File>;

/// What a volume is.
#[derive(Debug, PartialEq)]
pub enum Content {
    /// An empty directory of the pod's own, in memory of this many bytes at most.
    Empty {
        /// The bound.
        bytes: u64,
    },
    /// These files; the pod does not write to them.
    Files(Files),
    /// A path of the node, and what is to be there.
    Host {
        /// The path as written.
        path: String,
        /// The type, where one is asked for.
        kind: String,
    },
    /// What a PersistentVolumeClaim is bound to.
    Claim {
        /// The claim's name, in the pod's namespace.
        name: String,
        /// Whether the pod may only read it.
        read_only: bool,
    },
    /// What a driver mounts.
    Csi(Box<CSIVolumeSource>),
}

/// A volume that is ready to be mounted into containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The directory of the node.
    pub dir: PathBuf,
    /// The part of it that is the volume; looked up when a container starts, since pods may put links there.
    pub inside: Option<PathBuf>,
    /// Whether no container may write to it.
    pub read_only: bool,
    /// What it may hold, bytes, where it is on the machine's disk and no file system bounds it.
    pub capacity: Option<u64>,
}

/// An empty directory without a `sizeLimit` holds this much, bytes.
pub const EMPTY_DIR: u64 = 128 << 20;
/// No empty directory holds more: it is memory of this machine.
pub const MOST: u64 = 1 << 30;

/// An empty directory of the node's disk can hold this much more than its `sizeLimit`, bytes, or a quarter of it if that is more:
/// so that it can be seen to be over.
const BEYOND: u64 = 1 << 20;

/// The bound of an empty directory. A pod that goes beyond the `sizeLimit` of one is evicted (`ephemeral`); until that is seen, it
/// can go no further than a little. One of medium `Memory` is a file system of that size, as in Kubernetes: the write fails.
fn bound(empty: &EmptyDirVolumeSource) -> u64 {
    let limit = empty.size_limit.as_ref().and_then(|size| quantity::parse(&size.0));
    match limit.map(quantity::Quantity::value) {
        None | Some(0) => EMPTY_DIR,
        Some(bytes) if empty.medium.as_deref() == Some("Memory") => bytes.min(MOST),
        Some(bytes) => bytes.saturating_add((bytes / 4).max(BEYOND)).min(MOST),
    }
}

/// A token that a volume asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// For whom, or the API server.
    pub audience: Option<String>,
    /// For how long, seconds.
    pub seconds: i64,
}

impl TokenRequest {
    fn of(projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: projection.audience.clone().filter(|audience| !audience.is_empty()),
            seconds: projection.expiration_seconds.unwrap_or(3600).max(600),
        }
    }
}

/// The tokens that a pod's volumes ask for.
pub fn tokens(pod: &Pod) -> Vec<TokenRequest> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let mut all: Vec<TokenRequest> = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
        .flatten()
        .filter_map(|source| source.service_account_token.as_ref())
        .map(TokenRequest::of)
        .collect();
    all.sort();
    all.dedup();
    all
}

fn relative(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if plain && path.components().next().is_some() {
        Ok(path.to_owned())
    } else {
        Err(format!("invalid path {path:?} in a volume"))
    }
}

fn mode(item: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(item.or(default).unwrap_or(0o644)).unwrap_or(0o644) & 0o777
}

fn pick(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: bool,
    owner: &str,
) -> Result<Files, String> {
    let mut files = Files::new();
    match items {
        None => {
            for (key, bytes) in data {
                files.insert(
                    relative(key)?,
                    File {
                        bytes: bytes.clone(),
                        mode: mode(None, default),
                    },
                );
            }
        }
        Some(items) => {
            for item in items {
                match data.get(&item.key) {
                    Some(bytes) => {
                        files.insert(
                            relative(&item.path)?,
                            File {
                                bytes: bytes.clone(),
                                mode: mode(item.mode, default),
                            },
                        );
                    }
                    None if optional => {}
                    None => return Err(format!("{owner} references non-existent key: {}", item.key)),
                }
            }
        }
    }
    Ok(files)
}

fn of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

fn of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

fn downward(pod: &Pod, items: &[DownwardAPIVolumeFile], default: Option<i32>, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => field(pod, selector, facts)?,
            (None, Some(selector)) => {
                let name = selector.container_name.as_deref().unwrap_or_default();
                let spec = pod.spec.as_ref();
                let mut containers = spec
                    .into_iter()
                    .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
                let container = containers
                    .find(|container| container.name == name)
                    .ok_or_else(|| format!("container {name} not found"))?;
                resource(container, selector, facts)?
            }
            (None, None) => String::new(),
        };
        files.insert(
            relative(&item.path)?,
            File {
                bytes: text.into_bytes(),
                mode: mode(item.mode, default),
            },
        );
    }
    Ok(files)
}

fn of_named_map(
    sources: &dyn Sources,
    name: &str,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: Option<bool>,
) -> Result<Files, String> {
    let optional = optional == Some(true);
    let data = match sources.config_map(name) {
        Some(map) => of_map(&map),
        None if optional => BTreeMap::new(),
        None => return Err(format!("configmap \"{name}\" not found")),
    };
    pick(&data, items, default, optional, "configmap")
}

fn of_named_secret(
    sources: &dyn Sources,
    name: &str,
    items: Option<&Vec<KeyToPath>>,
    default: Option<i32>,
    optional: Option<bool>,
) -> Result<Files, String> {
    let optional = optional == Some(true);
    let data = match sources.secret(name) {
        Some(secret) => of_secret(&secret),
        None if optional => BTreeMap::new(),
        None => return Err(format!("secret \"{name}\" not found")),
    };
    pick(&data, items, default, optional, "secret")
}

/// What is in a volume now.
///
/// # Errors
/// What is missing or cannot be had here, in the kubelet's words.
pub fn content(
    pod: &Pod,
    volume: &Volume,
    facts: &Facts,
    sources: &dyn Sources,
    tokens: &BTreeMap<TokenRequest, String>,
) -> Result<Content, String> {
    if let Some(empty) = &volume.empty_dir {
        return Ok(Content::Empty { bytes: bound(empty) });
    }
    if let Some(source) = &volume.host_path {
        return Ok(Content::Host {
            path: source.path.clone(),
            kind: source.type_.clone().unwrap_or_default(),
        });
    }
    if let Some(source) = &volume.persistent_volume_claim {
        return Ok(Content::Claim {
            name: source.claim_name.clone(),
            read_only: source.read_only == Some(true),
        });
    }
    if let Some(source) = &volume.csi {
        return Ok(Content::Csi(Box::new(source.clone())));
    }
    let files = if let Some(source) = &volume.config_map {
        let items = source.items.as_ref();
        of_named_map(sources, &source.name, items, source.default_mode, source.optional)
    } else if let Some(source) = &volume.secret {
        let (name, items) = (source.secret_name.as_deref().unwrap_or_default(), source.items.as_ref());
        of_named_secret(sources, name, items, source.default_mode, source.optional)
    } else if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        downward(pod, items, source.default_mode, facts)
    } else if let Some(source) = &volume.projected {
        projected(pod, source, facts, sources, tokens)
    } else {
        Err(
            "no volume plugin matched: this node has emptyDir, hostPath, persistentVolumeClaim, configMap, secret, \
             downwardAPI and projected"
                .to_owned(),
        )
    };
    files.map(Content::Files)
}

fn projected(
    pod: &Pod,
    projected: &ProjectedVolumeSource,
    facts: &Facts,
    sources: &dyn Sources,
    tokens: &BTreeMap<TokenRequest, String>,
) -> Result<Files, String> {
    let default = projected.default_mode;
    let mut files = Files::new();
    for source in projected.sources.iter().flatten() {
        if let Some(token) = &source.service_account_token {
            let value = tokens.get(&TokenRequest::of(token)).cloned().unwrap_or_default();
            let file = File {
                bytes: value.into_bytes(),
                // Only its owner reads a token.
                mode: mode(None, default) & 0o600,
            };
            files.insert(relative(&token.path)?, file);
        }
        if let Some(source) = &source.config_map {
            let items = source.items.as_ref();
            files.extend(of_named_map(sources, &source.name, items, default, source.optional)?);
        }
        if let Some(source) = &source.secret {
            let items = source.items.as_ref();
            files.extend(of_named_secret(sources, &source.name, items, default, source.optional)?);
        }
        if let Some(source) = &source.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            files.extend(downward(pod, items, default, facts)?);
        }
        if source.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle projections are not supported by this node".to_owned());
        }
    }
    Ok(files)
}

/// Puts the files into `dir`: into a new directory beside the old one, to which `..data` is then switched. With a `group`, they are
/// its to read.
///
/// # Errors
/// When the file system refuses.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let stamp = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = dir.join(&stamp);
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.bytes)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    fs::create_dir_all(&fresh)?;
    if let Some(group) = group {
        // The old files are the group's already: only the directory itself is new the first time.
        fs_group::give_files(if dir.join("..data").exists() { &fresh } else { dir }, group)?;
    }
    let data = dir.join("..data");
    let old = fs::read_link(&data).ok();
    let switch = dir.join("..data_tmp");
    let _ = fs::remove_file(&switch);
    symlink(&stamp, &switch)?;
    fs::rename(&switch, &data)?;
    let wanted: std::collections::BTreeSet<_> = files
        .keys()
        .filter_map(|path| path.components().next())
        .map(|part| part.as_os_str().to_owned())
        .collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old.filter(|old| old.as_os_str() != stamp.as_str()) {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    struct Held;

    impl Sources for Held {
        fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            (name == "cm").then(|| Arc::new(serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap()))
        }
        fn secret(&self, _: &str) -> Option<Arc<Secret>> {
            None
        }
    }

    fn run(volume: serde_json::Value) -> Result<Content, String> {
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}]}}),
        )
        .unwrap();
        let mut volume = volume;
        volume["name"] = json!("v");
        let tokens = BTreeMap::from([(
            TokenRequest {
                audience: None,
                seconds: 3607,
            },
            "tok".to_owned(),
        )]);
        content(
            &pod,
            &serde_json::from_value(volume).unwrap(),
            &Facts::default(),
            &Held,
            &tokens,
        )
    }

    fn file(text: &str, mode: u32) -> File {
        File {
            bytes: text.into(),
            mode,
        }
    }

    #[test]
    fn volumes_hold_what_they_say() {
        let files = |list: &[(&str, File)]| {
            Ok(Content::Files(
                list.iter()
                    .map(|(path, file)| (PathBuf::from(path), file.clone()))
                    .collect(),
            ))
        };
        for (volume, expected) in [
            (
                json!({"configMap": {"name": "cm"}}),
                files(&[("a", file("1", 0o644)), ("b", file("2", 0o644))]),
            ),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y", "mode": 256}]}}),
                files(&[("x/y", file("1", 0o400))]),
            ),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../y"}]}}),
                Err("invalid path \"../y\" in a volume".to_owned()),
            ),
            (
                json!({"secret": {"secretName": "no"}}),
                Err("secret \"no\" not found".to_owned()),
            ),
            (json!({"secret": {"secretName": "no", "optional": true}}), files(&[])),
            (json!({"emptyDir": {}}), Ok(Content::Empty { bytes: EMPTY_DIR })),
            (
                json!({"emptyDir": {"sizeLimit": "8Mi", "medium": "Memory"}}),
                Ok(Content::Empty { bytes: 8 << 20 }),
            ),
            (
                json!({"emptyDir": {"sizeLimit": "8Mi"}}),
                Ok(Content::Empty { bytes: 10 << 20 }),
            ),
            (
                json!({"emptyDir": {"sizeLimit": "1Mi"}}),
                Ok(Content::Empty { bytes: 2 << 20 }),
            ),
            (
                json!({"emptyDir": {"sizeLimit": "0"}}),
                Ok(Content::Empty { bytes: EMPTY_DIR }),
            ),
            (
                json!({"emptyDir": {"sizeLimit": "100Gi"}}),
                Ok(Content::Empty { bytes: MOST }),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
                Ok(Content::Claim {
                    name: "c".to_owned(),
                    read_only: true,
                }),
            ),
            (
                json!({"downwardAPI": {"items": [
                    {"path": "l", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
                    {"path": "c", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}),
                files(&[("c", file("1", 0o644)), ("l", file("64", 0o644))]),
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
                files(&[("namespace", file("ns", 0o644)), ("token", file("tok", 0o600))]),
            ),
        ] {
            assert_eq!(run(volume.clone()), expected, "{volume}");
        }
    }

    #[test]
    fn an_update_switches_all_files_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let files = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(p, t)| (PathBuf::from(p), file(t, 0o644)))
                .collect::<Files>()
        };
        write(temp.path(), &files(&[("a", "1"), ("x/y", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(temp.path().join("x/y")).unwrap(), "2");
        write(temp.path(), &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(temp.path().join("a")).unwrap(), "3");
        let mut left: Vec<_> = fs::read_dir(temp.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 3, "a, ..data and one directory: {left:?}");
    }
}
