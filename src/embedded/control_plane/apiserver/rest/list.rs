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
use crate::embedded::control_plane::{
    api::{
        Resource,
        selector::{FieldSelector, LabelSelector},
    },
    storage::StoreError,
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
        let bad = |error: crate::embedded::control_plane::api::selector::SelectorError| {
            ApiError::bad_request(error.to_string())
        };
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

/// Where the next page begins. It repeats the first page's revision: a watch from there sees every change that came
/// between the pages.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    #[serde(rename = "rv")]
    revision: u64,
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
    let after = call.query.get("continue").map(Continue::decode).transpose()?;
    let listed = call
        .server
        .store()
        .list(&collection(&call.resource), call.path.namespace.as_deref());
    check_revision(call, listed.revision)?;
    let revision = after.as_ref().map_or(listed.revision, |token| token.revision);
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
            metadata["continue"] = json!(Continue { revision, after }.encode());
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

/// The newest state satisfies "any" and "not older than"; an exact past revision is not kept.
fn check_revision(call: &Call, current: u64) -> Result<(), ApiError> {
    let Some(requested) = call.query.number::<u64>("resourceVersion")? else {
        return match call.query.get("resourceVersionMatch") {
            None => Ok(()),
            Some(_) => Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
        };
    };
    if call.query.get("resourceVersionMatch") == Some("Exact") && requested != current && requested != 0 {
        if requested < current {
            return Err(ApiError::expired(format!(
                "The provided resource version {requested} is no longer kept"
            )));
        }
    } else if requested <= current {
        return Ok(());
    }
    if requested > current {
        let error = StoreError::TooLarge { requested, current };
        return Err(ApiError::from_store(&error, &call.resource, ""));
    }
    Ok(())
}
