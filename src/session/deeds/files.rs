//! Keys, certificates and texts: files of the work directory, and what holds them in the cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, api::DynamicObject};

use super::{
    Place, api_error,
    apply::{apply, delete},
};
use crate::{
    check::work,
    lab::{Authority, Kept, Named, Says, WorkPath},
    probe::{
        TlsIdentity,
        pki::{self, Recipe, Role},
    },
    session::world::WorldError,
};

pub(super) fn certificate(
    place: &Place,
    out: &WorkPath,
    says: &Says,
    authority: Option<&WorkPath>,
) -> Result<(), WorldError> {
    let recipe = Recipe {
        name: says.name.clone(),
        names: says.names.clone(),
        days: says.days,
        expired: says.expired,
        role: match says.authority {
            Some(Authority { flag, path_length }) => Role::Authority { flag, path_length },
            None => Role::Leaf {
                server: says.server,
                client: says.client,
            },
        },
    };
    let made = match authority {
        None => pki::self_signed(&recipe),
        Some(base) => {
            let authority = TlsIdentity {
                chain: read(place, &base.with(".crt"))?,
                key: read(place, &base.with(".key"))?,
            };
            pki::signed_by(&recipe, &authority)
        }
    };
    let made = made.map_err(|why| WorldError::new(format!("make the certificate {out}: {why}")))?;
    write(place, &out.with(".key"), made.key.as_bytes())?;
    write(place, &out.with(".crt"), made.chain.as_bytes())
}

fn bytes(place: &Place, path: &WorkPath) -> Result<Vec<u8>, WorldError> {
    let found = work::read(&place.work, path);
    let found = found.map_err(|error| WorldError::new(format!("read the file {path}: {error}")))?;
    found.ok_or_else(|| WorldError::new(format!("there is no file {path} in the work directory")))
}

fn read(place: &Place, path: &WorkPath) -> Result<String, WorldError> {
    String::from_utf8(bytes(place, path)?).map_err(|_| WorldError::new(format!("the file {path} is no text")))
}

pub(super) fn write(place: &Place, path: &WorkPath, bytes: &[u8]) -> Result<(), WorldError> {
    work::write(&place.work, path, bytes).map_err(|error| WorldError::new(format!("write the file {path}: {error}")))
}

pub(super) async fn keep(
    place: &Place,
    kind: Kept,
    name: &str,
    files: &BTreeMap<String, WorkPath>,
    texts: &BTreeMap<String, String>,
) -> Result<(), WorldError> {
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, path) in files {
        data.insert(key.clone(), bytes(place, path)?);
    }
    for (key, text) in texts {
        data.insert(key.clone(), text.clone().into_bytes());
    }
    let tls = data.contains_key("tls.crt") && data.contains_key("tls.key");
    let meta = kube::core::ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(place.namespace.clone()),
        ..Default::default()
    };
    let object = match kind {
        Kept::Secret => serde_json::to_value(Secret {
            metadata: meta,
            type_: Some(if tls { "kubernetes.io/tls" } else { "Opaque" }.to_owned()),
            data: Some(data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
            ..Secret::default()
        }),
        Kept::ConfigMap => {
            let mut map = ConfigMap {
                metadata: meta,
                ..ConfigMap::default()
            };
            for (key, bytes) in data {
                match String::from_utf8(bytes) {
                    Ok(text) => {
                        map.data.get_or_insert_default().insert(key, text);
                    }
                    Err(error) => {
                        let bytes = ByteString(error.into_bytes());
                        map.binary_data.get_or_insert_default().insert(key, bytes);
                    }
                }
            }
            serde_json::to_value(map)
        }
    };
    let object = object.and_then(serde_json::from_value::<DynamicObject>);
    let object = object.map_err(|error| WorldError::new(format!("make {name}: {error}")))?;
    replace_if_typed_otherwise(place, kind, name, tls).await?;
    apply(place, vec![object]).await
}

/// A Secret's type cannot be changed: one of another type makes room.
async fn replace_if_typed_otherwise(place: &Place, kind: Kept, name: &str, tls: bool) -> Result<(), WorldError> {
    if kind != Kept::Secret {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(place.client.clone(), &place.namespace);
    let there = api
        .get_opt(name)
        .await
        .map_err(api_error(format!("read the Secret {name}")))?;
    let wanted = if tls { "kubernetes.io/tls" } else { "Opaque" };
    match there {
        Some(secret) if secret.type_.as_deref().unwrap_or("Opaque") != wanted => {
            let named = Named {
                api_version: Some("v1".to_owned()),
                kind: "Secret".to_owned(),
                name: name.to_owned(),
                namespace: None,
            };
            delete(place, &named).await
        }
        _ => Ok(()),
    }
}
