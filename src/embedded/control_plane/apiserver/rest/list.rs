//! `list`: selectors, pages, revisions.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{
    Body,
    dispatch::Call,
    meta,
    reply::{self, served},
    status::{ApiError, collection},
};
use crate::control_plane::{
    api::{
        Resource,
        selector::{FieldSelector, LabelSelector},
    },
    storage::{Listed, StoreError},
};

/// Which objects a request is about.
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// The selectors of a request's query.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read.
    pub fn of(call: &Call) -> Result<Self, ApiError> {
        let bad = |error: crate::control_plane::api::selector::SelectorError| ApiError::bad_request(error.to_string());
        Ok(Self {
            labels: LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default()).map_err(bad)?,
            fields: FieldSelector::parse(&call.resource, call.query.get("fieldSelector").unwrap_or_default())
                .map_err(bad)?,
        })
    }

    /// Whether it matches everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether a stored object is selected.
    pub fn matches(&self, resource: &Resource, object: &Arc<Value>) -> bool {
        self.labels.matches(object) && (self.fields.is_empty() || self.fields.matches(&served(resource, object)))
    }
}

/// Where the next page begins. All pages are of the first one's revision: they are one list, and a watch from there sees
/// every change since.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    /// `None` goes on with what there is now.
    #[serde(rename = "rv")]
    revision: Option<u64>,
    /// Namespace and name of the last object of the page before.
    after: (String, String),
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| ApiError::bad_request("continue key is not valid"))
    }
}

/// Answers `list`.
///
/// # Errors
/// 400, 410, 504.
pub fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let selection = Selection::of(call)?;
    let limit: Option<usize> = call.query.number("limit")?.filter(|limit| *limit > 0);
    let after = call.query.get("continue").filter(|token| !token.is_empty());
    let after = after.map(Continue::decode).transpose()?;
    let listed = match &after {
        Some(token) => go_on(call, token)?,
        None => begin(call, limit)?,
    };
    let revision = listed.revision;
    let mut items: Vec<Arc<Value>> = listed
        .items
        .into_iter()
        .filter(|item| {
            after
                .as_ref()
                .is_none_or(|token| position(item) > borrowed(&token.after))
        })
        .filter(|item| selection.matches(&call.resource, item))
        .collect();
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(limit) = limit.filter(|limit| *limit < items.len()) {
        let remaining = items.len() - limit;
        items.truncate(limit);
        if let Some((namespace, name)) = items.last().map(|item| position(item)) {
            let after = (namespace.to_owned(), name.to_owned());
            metadata["continue"] = json!(
                Continue {
                    revision: Some(revision),
                    after
                }
                .encode()
            );
        }
        if selection.is_everything() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(reply::list(&call.resource, call.form, call.include, &items, metadata))
}

fn position(object: &Value) -> (&str, &str) {
    (meta::namespace(object), meta::name(object))
}

fn borrowed(pair: &(String, String)) -> (&str, &str) {
    (&pair.0, &pair.1)
}

/// What a list without `continue` is taken from. The newest state satisfies "any" and "not older than".
///
/// Source: Kubernetes' API concepts, "the `resourceVersion` and `resourceVersionMatch` parameters".
fn begin(call: &Call, limit: Option<usize>) -> Result<Listed, ApiError> {
    let (store, collection) = (call.server.store(), collection(&call.resource));
    let namespace = call.path.namespace.as_deref();
    let how = call.query.get("resourceVersionMatch").filter(|how| !how.is_empty());
    let Some(requested) = call.query.number::<u64>("resourceVersion")? else {
        return match how {
            None => Ok(store.list(&collection, namespace)),
            Some(_) => Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
        };
    };
    let exact = match how {
        Some("Exact") if requested == 0 => {
            let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            return Err(ApiError::bad_request(why));
        }
        Some("Exact") => true,
        Some("NotOlderThan") => false,
        // As etcd answered before there was a choice.
        None => limit.is_some() && requested > 0,
        Some(other) => {
            let why = format!(
                "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
            );
            return Err(ApiError::bad_request(why));
        }
    };
    if exact {
        let listed = store.list_at(&collection, namespace, requested);
        return listed.map_err(|error| ApiError::from_store(&error, &call.resource, ""));
    }
    let listed = store.list(&collection, namespace);
    if requested > listed.revision {
        let current = listed.revision;
        let error = StoreError::TooLarge { requested, current };
        return Err(ApiError::from_store(&error, &call.resource, ""));
    }
    Ok(listed)
}

/// What a further page is taken from. Where the history no longer reaches back to the first, the client is told, and given
/// a token to go on with what there is now.
fn go_on(call: &Call, token: &Continue) -> Result<Listed, ApiError> {
    const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new \
        list without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
        results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, \
        or deleted between the time the first chunk was returned and now may show up in the list.";
    let given = call.query.get("resourceVersion").unwrap_or_default();
    if !given.is_empty() && given != "0" {
        return Err(ApiError::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let (store, collection) = (call.server.store(), collection(&call.resource));
    let namespace = call.path.namespace.as_deref();
    let Some(revision) = token.revision else {
        return Ok(store.list(&collection, namespace));
    };
    store.list_at(&collection, namespace, revision).map_err(|_| {
        let mut error = ApiError::expired(TOO_OLD);
        let rest = Continue {
            revision: None,
            after: token.after.clone(),
        };
        error.0.metadata.continue_ = Some(rest.encode());
        error
    })
}
