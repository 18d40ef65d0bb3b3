//! Bytes in Secrets, ConfigMaps and files, and the certificates and keys among them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, api::ListParams};

use super::{GatherError, Scene, work};
use crate::{
    check::{CertificateFound, Certificates, Evidence, KeyAt},
    evidence::{CertificateFacts, chain_of, key_of, public_of},
    lab::{CertificateCheck, Store},
};

/// The most Secrets and ConfigMaps that are searched for keys.
const MOST: u32 = 500;

/// The bytes of a store; `None` where there are none.
///
/// # Errors
/// When the API does not say, or the file cannot be read.
pub async fn read_store(scene: &Scene, store: &Store) -> Result<Option<Vec<u8>>, GatherError> {
    match store {
        Store::Secret { name, key } => {
            let api: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
            let found = api.get_opt(name).await;
            let found = found.map_err(GatherError::api(format!("read the Secret {name}")))?;
            let bytes = found.and_then(|secret| secret.data?.remove(key));
            Ok(bytes.map(|bytes| bytes.0))
        }
        Store::ConfigMap { name, key } => {
            let api: Api<ConfigMap> = Api::namespaced(scene.client.clone(), &scene.namespace);
            let found = api.get_opt(name).await;
            let found = found.map_err(GatherError::api(format!("read the ConfigMap {name}")))?;
            Ok(found.and_then(|map| {
                let text = map.data.and_then(|mut data| data.remove(key)).map(String::into_bytes);
                text.or_else(|| Some(map.binary_data?.remove(key)?.0))
            }))
        }
        Store::File(path) => {
            let dir = scene
                .work
                .as_ref()
                .ok_or_else(|| GatherError::Missing("this session has no work directory".to_owned()))?;
            work::read(dir, path).map_err(|error| GatherError::Missing(format!("the file {path}: {error}")))
        }
    }
}

/// The text of a store that must be there.
pub(super) async fn text_of(scene: &Scene, store: &Store) -> Result<String, GatherError> {
    let bytes = read_store(scene, store)
        .await?
        .ok_or_else(|| GatherError::Missing(format!("{store} is not there")))?;
    String::from_utf8(bytes).map_err(|_| GatherError::Missing(format!("{store} is no text")))
}

pub(super) async fn certificate(scene: &Scene, check: &CertificateCheck) -> Result<Evidence, GatherError> {
    let signer = match &check.signed_by {
        Some(store) => Some(first_of(scene, store).await?),
        None => None,
    };
    let key = match &check.key {
        Some(store) => Some(match read_store(scene, store).await? {
            None => Err(format!("{store} is not there")),
            Some(pem) => key_of(&pem)
                .and_then(|key| public_of(&key))
                .map_err(|why| format!("{store}: {why}")),
        }),
        None => None,
    };
    let keys = if check.key_not_in_cluster {
        Some(keys_of(scene).await?)
    } else {
        None
    };
    Ok(Evidence::Certificate(Box::new(Certificates {
        certificate: first_of(scene, &check.store).await?,
        signer,
        key,
        keys,
        now: jiff::Timestamp::now().as_second(),
    })))
}

/// The first certificate of a store, or why there is none.
async fn first_of(scene: &Scene, store: &Store) -> Result<Result<CertificateFound, String>, GatherError> {
    let Some(pem) = read_store(scene, store).await? else {
        return Ok(Err(format!("{store} is not there")));
    };
    let read = || {
        let der = chain_of(&pem)?.first().map(|der| der.to_vec()).unwrap_or_default();
        let facts = CertificateFacts::read(&der)?;
        Ok(CertificateFound { der, facts })
    };
    Ok(read().map_err(|why: String| format!("{store}: {why}")))
}

/// Every private key in the Secrets and ConfigMaps of the namespace.
async fn keys_of(scene: &Scene) -> Result<Vec<KeyAt>, GatherError> {
    let params = ListParams::default().limit(MOST);
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let secrets = secrets
        .list(&params)
        .await
        .map_err(GatherError::api("list the Secrets"))?;
    let maps = maps
        .list(&params)
        .await
        .map_err(GatherError::api("list the ConfigMaps"))?;
    let mut values: Vec<(Store, Vec<u8>)> = Vec::new();
    for secret in secrets {
        let name = secret.metadata.name.unwrap_or_default();
        for (key, bytes) in secret.data.into_iter().flatten() {
            let name = name.clone();
            values.push((Store::Secret { name, key }, bytes.0));
        }
    }
    for map in maps {
        let name = map.metadata.name.unwrap_or_default();
        let texts = map
            .data
            .into_iter()
            .flatten()
            .map(|(key, text)| (key, text.into_bytes()));
        let bytes = map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
        for (key, bytes) in texts.chain(bytes) {
            let name = name.clone();
            values.push((Store::ConfigMap { name, key }, bytes));
        }
    }
    let found = values.into_iter().filter_map(|(store, bytes)| {
        let public = public_of(&key_of(&bytes).ok()?).ok()?;
        Some(KeyAt {
            at: store.to_string(),
            public,
        })
    });
    Ok(found.collect())
}
