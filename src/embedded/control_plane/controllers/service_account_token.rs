//! Secrets of type `kubernetes.io/service-account-token` get the token of the account that they name, and go with it.
//!
//! Source: Kubernetes' "Manually create a long-lived API token for a ServiceAccount", tokens controller.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};

use super::Context;
use crate::{
    control_plane::pki::{LegacyClaims, TokenClaims, TokenKey},
    informer::Key,
    queue::Queue,
};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What becomes of a Secret.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It is as it should be.
    Keep,
    /// It lacks something.
    Fill(Box<Secret>),
    /// Its account is not there, or is another one of that name.
    Delete,
}

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let mut secrets = context.informers.secrets.subscribe();
    let mut accounts = context.informers.service_accounts.subscribe();
    let (feed, informers) = (queue.clone(), context.informers.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = secrets.recv() => match change {
                    Some(change) if is_token(change.object()) => feed.add(key(change.object())),
                    Some(_) => {}
                    None => return,
                },
                change = accounts.recv() => match change {
                    Some(change) => {
                        let account = change.object();
                        let all = informers.secrets.all();
                        let of_account = |secret: &Secret| {
                            is_token(secret)
                                && secret.metadata.namespace == account.metadata.namespace
                                && account_name(secret) == account.name_any()
                        };
                        all.iter().filter(|secret| of_account(secret)).for_each(|secret| feed.add(key(secret)));
                    }
                    None => return,
                },
            }
        }
    });
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("serviceaccount-token", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &key).await }
        }));
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn key(secret: &Secret) -> Key {
    Key::new(secret.namespace().unwrap_or_default(), secret.name_any())
}

fn account_name(secret: &Secret) -> &str {
    secret.annotations().get(ACCOUNT_NAME).map_or("", String::as_str)
}

async fn reconcile(context: &Context, key: &Key) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers;
    let Some(secret) = cache.secrets.get(key).filter(|secret| is_token(secret)) else {
        return Ok(None);
    };
    if secret.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let account = cache
        .service_accounts
        .get(&Key::new(&*key.namespace, account_name(&secret)));
    let account = match account {
        Some(account) => Some(account.as_ref().clone()),
        // The cache may be behind: whoever writes both at once, writes the account first.
        None => {
            let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &key.namespace);
            api.get_opt(account_name(&secret)).await?
        }
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &key.namespace);
    match fate(&secret, account.as_ref(), &context.ca_pem, &context.token_key) {
        Fate::Keep => {}
        Fate::Fill(filled) => {
            cache
                .secrets
                .wrote(api.replace(&key.name, &PostParams::default(), &filled).await?);
        }
        Fate::Delete => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match api.delete(&key.name, &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}

fn fate(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str, signer: &TokenKey) -> Fate {
    let Some(account) = account.filter(|account| account.metadata.deletion_timestamp.is_none()) else {
        return Fate::Delete;
    };
    let uid = account.uid().unwrap_or_default();
    let noted = secret.annotations().get(ACCOUNT_UID);
    if noted.is_some_and(|noted| !noted.is_empty() && *noted != uid) {
        return Fate::Delete;
    }
    let namespace = secret.namespace().unwrap_or_default();
    let mut filled = secret.clone();
    filled.annotations_mut().insert(ACCOUNT_UID.to_owned(), uid.clone());
    let data = filled.data.get_or_insert_default();
    fill(data, "ca.crt", ca_pem);
    fill(data, "namespace", &namespace);
    let has_token = data.get("token").is_some_and(|token| !token.0.is_empty());
    if !has_token {
        let claims = TokenClaims::in_secret(LegacyClaims {
            namespace,
            secret: secret.name_any(),
            account: account.name_any(),
            uid,
        });
        match signer.sign(&claims) {
            Ok(token) => fill(data, "token", &token),
            Err(error) => {
                tracing::error!(%error, "signing a service account's token");
                return Fate::Keep;
            }
        }
    }
    match filled == *secret {
        true => Fate::Keep,
        false => Fate::Fill(Box::new(filled)),
    }
}

fn fill(data: &mut BTreeMap<String, ByteString>, key: &str, value: &str) {
    data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let signer = TokenKey::generate().unwrap();
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "shop", "annotations": {ACCOUNT_NAME: "robot"}},
            "type": TYPE,
        }))
        .unwrap();
        let account = |uid: &str| -> ServiceAccount {
            serde_json::from_value(json!({"metadata": {"name": "robot", "namespace": "shop", "uid": uid}})).unwrap()
        };
        let fate = |secret: &Secret, account: Option<&ServiceAccount>| fate(secret, account, "the CA", &signer);
        assert_eq!(fate(&secret, None), Fate::Delete);
        let Fate::Fill(filled) = fate(&secret, Some(&account("1"))) else {
            panic!("not filled")
        };
        let data = filled.data.as_ref().unwrap();
        assert_eq!(data["ca.crt"].0, b"the CA");
        assert_eq!(data["namespace"].0, b"shop");
        let claims = signer
            .verify(std::str::from_utf8(&data["token"].0).unwrap(), 0)
            .unwrap();
        assert_eq!(claims.legacy.unwrap().uid, "1");
        assert_eq!(fate(&filled, Some(&account("1"))), Fate::Keep);
        assert_eq!(fate(&filled, Some(&account("2"))), Fate::Delete);
    }
}
