//! Plain manifests: read, applied, waited for, put back.

mod apply;
mod beyond;
pub mod certificates;
mod claim;
mod lock;
mod owned;
mod ready;
mod reset;
mod text;
mod transform;

use std::{fs, path::Path};

use kube::core::DynamicObject;

use super::ClusterError;

pub use apply::apply;
pub use beyond::{beyond, is_clusters, told};
pub use claim::{claim, reserve};
pub use owned::{is_marked, remove};
pub use ready::{Readiness, never_pulled, wait_ready, wait_ready_for};
pub use reset::{namespaces, reset};
pub use transform::{IMAGES, LAB_LABEL, OWNER_LABEL, Transform, image_in, images};

pub(super) use apply::Kinds;
pub(super) use claim::makes_more;
pub(super) use lock::NAMESPACE as LOCK_NAMESPACE;

/// The kinds a cluster serves.
pub(super) async fn kinds(client: &kube::Client) -> Result<apply::Kinds, ClusterError> {
    apply::Kinds::of(client).await
}

/// The largest manifest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Reads every `*.yaml` of a directory, in the order of the files' names.
///
/// # Errors
/// A file that cannot be read, is too large, or holds something that is no Kubernetes object.
pub fn load_dir(dir: &Path) -> Result<Vec<DynamicObject>, ClusterError> {
    let file_error = |path: &Path, source| ClusterError::File {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| file_error(dir, e))? {
        let path = entry.map_err(|e| file_error(dir, e))?.path();
        if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            files.push(path);
        }
    }
    files.sort();
    let mut objects = Vec::new();
    for path in files {
        let size = fs::metadata(&path).map_err(|e| file_error(&path, e))?.len();
        let name = path.display().to_string();
        if size > MAX_FILE {
            return Err(ClusterError::Manifest {
                file: name,
                reason: format!("is {size} bytes, more than {MAX_FILE}"),
            });
        }
        let text = fs::read_to_string(&path).map_err(|e| file_error(&path, e))?;
        objects.extend(parse(&name, &text)?);
    }
    Ok(objects)
}

/// The files of `manifests/flat`, in the order of their names.
const FLAT: &[(&str, &str)] = &[
    (
        "flat/00-shop.yaml",
        include_str!("../../../manifests/flat/00-shop.yaml"),
    ),
    (
        "flat/credentials.yaml",
        include_str!("../../../manifests/flat/credentials.yaml"),
    ),
    (
        "flat/frontend.yaml",
        include_str!("../../../manifests/flat/frontend.yaml"),
    ),
    ("flat/ledger.yaml", include_str!("../../../manifests/flat/ledger.yaml")),
    (
        "flat/mallory.yaml",
        include_str!("../../../manifests/flat/mallory.yaml"),
    ),
    (
        "flat/orders-api.yaml",
        include_str!("../../../manifests/flat/orders-api.yaml"),
    ),
    (
        "flat/payments-api.yaml",
        include_str!("../../../manifests/flat/payments-api.yaml"),
    ),
];

/// The files of `manifests/microsegmented`.
const MICROSEGMENTED: &[(&str, &str)] = &[
    (
        "microsegmented/00-default-deny.yaml",
        include_str!("../../../manifests/microsegmented/00-default-deny.yaml"),
    ),
    (
        "microsegmented/01-dns.yaml",
        include_str!("../../../manifests/microsegmented/01-dns.yaml"),
    ),
    (
        "microsegmented/frontend.yaml",
        include_str!("../../../manifests/microsegmented/frontend.yaml"),
    ),
    (
        "microsegmented/ledger.yaml",
        include_str!("../../../manifests/microsegmented/ledger.yaml"),
    ),
    (
        "microsegmented/orders-api.yaml",
        include_str!("../../../manifests/microsegmented/orders-api.yaml"),
    ),
    (
        "microsegmented/payments-api.yaml",
        include_str!("../../../manifests/microsegmented/payments-api.yaml"),
    ),
];

/// The files of `manifests/mtls`.
const MTLS: &[(&str, &str)] = &[
    (
        "mtls/frontend.yaml",
        include_str!("../../../manifests/mtls/frontend.yaml"),
    ),
    ("mtls/ledger.yaml", include_str!("../../../manifests/mtls/ledger.yaml")),
    (
        "mtls/orders-api.yaml",
        include_str!("../../../manifests/mtls/orders-api.yaml"),
    ),
    (
        "mtls/payments-api.yaml",
        include_str!("../../../manifests/mtls/payments-api.yaml"),
    ),
];

/// The files of `manifests/spiffe`.
const SPIFFE: &[(&str, &str)] = &[
    (
        "spiffe/00-clusterspiffeid.yaml",
        include_str!("../../../manifests/spiffe/00-clusterspiffeid.yaml"),
    ),
    (
        "spiffe/frontend.yaml",
        include_str!("../../../manifests/spiffe/frontend.yaml"),
    ),
    (
        "spiffe/ledger.yaml",
        include_str!("../../../manifests/spiffe/ledger.yaml"),
    ),
    (
        "spiffe/orders-api.yaml",
        include_str!("../../../manifests/spiffe/orders-api.yaml"),
    ),
    (
        "spiffe/payments-api.yaml",
        include_str!("../../../manifests/spiffe/payments-api.yaml"),
    ),
];

/// The files of `manifests/spire`, which `spiffe` needs.
const SPIRE: &[(&str, &str)] = &[
    (
        "spire/00-namespace.yaml",
        include_str!("../../../manifests/spire/00-namespace.yaml"),
    ),
    (
        "spire/01-definitions.yaml",
        include_str!("../../../manifests/spire/01-definitions.yaml"),
    ),
    (
        "spire/02-server-account.yaml",
        include_str!("../../../manifests/spire/02-server-account.yaml"),
    ),
    (
        "spire/03-server.yaml",
        include_str!("../../../manifests/spire/03-server.yaml"),
    ),
    (
        "spire/04-agent.yaml",
        include_str!("../../../manifests/spire/04-agent.yaml"),
    ),
    (
        "spire/05-csi-driver.yaml",
        include_str!("../../../manifests/spire/05-csi-driver.yaml"),
    ),
];

/// The topologies built into this binary, by the name of their directory.
const BUILT_IN: &[(&str, &[(&str, &str)])] = &[
    ("flat", FLAT),
    ("microsegmented", MICROSEGMENTED),
    ("mtls", MTLS),
    ("spiffe", SPIFFE),
    ("spire", SPIRE),
];

/// The names of the topologies built into this binary. Each of the shop's adds to the one before.
pub fn layers() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The files of a topology built into this binary, as they are written: name and text.
pub fn texts(layer: &str) -> Option<&'static [(&'static str, &'static str)]> {
    BUILT_IN
        .iter()
        .find(|(name, _)| *name == layer)
        .map(|(_, files)| *files)
}

/// The manifests of a topology built into this binary (`flat`, …), or `None` where there is none of that name.
///
/// # Errors
/// A manifest that is not one: a mistake in this binary, which its tests catch.
pub fn built_in(layer: &str) -> Option<Result<Vec<DynamicObject>, ClusterError>> {
    let (_, files) = BUILT_IN.iter().find(|(name, _)| *name == layer)?;
    let mut objects = Vec::new();
    for (name, text) in *files {
        match parse(name, text) {
            Ok(more) => objects.extend(more),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(objects))
}

/// The objects of several topologies one on the other: of those that have the same kind, namespace and name, the last.
pub fn layered(objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<DynamicObject> = objects
        .into_iter()
        .rev()
        .filter(|object| seen.insert(apply::name_of(object)))
        .collect();
    kept.reverse();
    kept
}

/// Reads the objects of a YAML text, which may hold several documents and `List`s.
///
/// # Errors
/// A document that is no Kubernetes object.
pub fn parse(file: &str, text: &str) -> Result<Vec<DynamicObject>, ClusterError> {
    let problem = |index: usize, reason: String| ClusterError::Manifest {
        file: format!("{file} (document {})", index + 1),
        reason,
    };
    let documents: Vec<serde_json::Value> =
        serde_yaml::from_multiple(text).map_err(|error| ClusterError::Manifest {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        let items = match (document["kind"].as_str(), document.get("items")) {
            (Some(kind), Some(serde_json::Value::Array(items))) if kind.ends_with("List") => items.clone(),
            _ => vec![document],
        };
        for item in items {
            for field in ["apiVersion", "kind"] {
                if item[field].as_str().is_none_or(str::is_empty) {
                    return Err(problem(
                        index,
                        format!("{field} is missing: is it a Kubernetes object?"),
                    ));
                }
            }
            if item["metadata"]["name"].as_str().is_none_or(str::is_empty) {
                return Err(problem(index, "metadata.name is missing".to_owned()));
            }
            objects.push(serde_json::from_value(item).map_err(|error| problem(index, error.to_string()))?);
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_what_the_directories_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let mut layers: Vec<String> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        layers.sort();
        assert_eq!(layers, BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for layer in layers {
            let built_in = built_in(&layer).unwrap().unwrap();
            assert_eq!(
                built_in,
                load_dir(&root.join(&layer)).unwrap(),
                "{layer}: a file is missing in BUILT_IN"
            );
            assert!(!built_in.is_empty());
        }
    }

    #[test]
    fn of_two_layers_the_later_object_is_kept() {
        let [flat, mtls] = ["flat", "mtls"].map(|layer| built_in(layer).unwrap().unwrap());
        let both = layered(flat.iter().chain(&mtls).cloned().collect());
        assert!(mtls.iter().all(|object| both.contains(object)));
        let names: std::collections::BTreeSet<_> = flat.iter().chain(&mtls).map(apply::name_of).collect();
        assert!(names.len() < flat.len() + mtls.len());
        assert_eq!(
            both.iter()
                .map(apply::name_of)
                .collect::<std::collections::BTreeSet<_>>(),
            names
        );
        assert_eq!(both.len(), names.len());
    }

    /// Who may call is said twice, for ztlab (an annotation) and for the service (SPIFFE IDs): both must say the same.
    #[test]
    fn the_shop_with_svids_authorises_the_edges_it_declares_and_holds_no_key() {
        let objects = built_in("spiffe").unwrap().unwrap();
        let of_kind = |kind: &'static str| {
            objects
                .iter()
                .filter(move |object| object.types.as_ref().is_some_and(|types| types.kind == kind))
        };
        let id = |service: &str| format!("spiffe://ztlab.example/ns/shop/sa/{service}");
        let mut edges = Vec::new();
        for deployment in of_kind("Deployment") {
            let name = deployment.metadata.name.clone().unwrap();
            let pod = &deployment.data["spec"]["template"]["spec"];
            assert_eq!(pod["serviceAccountName"], name, "the identity is the service account's");
            let volumes = pod["volumes"].as_array().unwrap();
            assert!(
                volumes.iter().all(|volume| volume["csi"]["driver"] == "csi.spiffe.io"),
                "{volumes:?}"
            );
            let variables = pod["containers"][0]["env"].as_array().unwrap();
            let variable = |name: &str| {
                let found = variables.iter().find(|variable| variable["name"] == name);
                found.and_then(|variable| variable["value"].as_str())
            };
            let files = variables
                .iter()
                .filter(|it| it["name"].as_str().unwrap().ends_with("_FILE"));
            assert_eq!(files.count(), 0, "{name}");
            let callers = variable("TLS_AUTHORIZED_IDS").unwrap();
            let service = of_kind("Service")
                .find(|it| it.metadata.name.as_ref() == Some(&name))
                .unwrap();
            let declared = &service.metadata.annotations.as_ref().unwrap()["ztlab.dev/callers"];
            if declared.is_empty() {
                assert_eq!(callers, "none", "{name}");
            } else {
                assert_eq!(callers, id(declared), "{name}");
                edges.push((id(declared), id(&name)));
            }
            if let Some(called) = variable("TLS_UPSTREAM_AUTHORIZED_IDS") {
                edges.push((id(&name), called.to_owned()));
            }
        }
        // Each edge is there from both of its ends.
        edges.sort();
        assert_eq!(edges.len(), 6);
        assert!(edges.chunks(2).all(|pair| pair[0] == pair[1]), "{edges:#?}");
    }

    #[test]
    fn lists_and_documents_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n---\n---\n\
                    apiVersion: v1\nkind: Service\nmetadata: {name: b}\n";
        let names: Vec<_> = parse("x", text)
            .unwrap()
            .into_iter()
            .filter_map(|o| o.metadata.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_is_no_object_is_refused_by_file_and_document() {
        for (text, expected) in [
            (
                "kind: Secret\nmetadata: {name: a}",
                "x (document 1): apiVersion is missing",
            ),
            (
                "apiVersion: v1\nkind: Secret",
                "x (document 1): metadata.name is missing",
            ),
            ("just text", "apiVersion is missing"),
            ("a: [", "x: "),
        ] {
            let error = parse("x", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
