//! LimitRanges and ResourceQuotas at admission: what a new object is given, and whether there is room for it.
//!
//! Source: Kubernetes' "Admission control" (LimitRanger, ResourceQuota).

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError},
};

use serde_json::Value;

use super::{
    ApiServer,
    admission::Allocating,
    meta,
    status::{ApiError, collection},
};
use crate::control_plane::{api::Resource, quota, storage::CollectionKey};

impl ApiServer {
    fn held(&self, plural: &str, namespace: &str) -> Vec<Arc<Value>> {
        let key = CollectionKey::new("", plural);
        self.store().list(&key, Some(namespace)).items
    }

    /// Gives a new pod or claim what the namespace's LimitRanges say.
    ///
    /// # Errors
    /// 403 where it is beyond their ends.
    pub(super) fn limit(&self, resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), ApiError> {
        let ranges = self.held("limitranges", namespace);
        if resource.kind == "Pod" {
            ranges.iter().for_each(|range| quota::fill(range, object));
        }
        let broken = ranges
            .iter()
            .flat_map(|range| quota::violations(range, &resource.plural, object));
        let broken: Vec<String> = broken.collect();
        let why: Cow<'_, str> = match broken.as_slice() {
            [] => return Ok(()),
            [one] => one.into(),
            many => format!("[{}]", many.join(", ")).into(),
        };
        Err(ApiError::forbidden(resource, meta::name(object), why))
    }

    /// Whether the namespace's quotas have room for a new object. What is given back is held until the object is stored, so that no
    /// two are given the same room.
    ///
    /// # Errors
    /// 403 where one has none.
    pub(super) fn admit_quota<'a>(
        &'a self,
        resource: &Resource,
        namespace: &str,
        object: &Value,
        held: Allocating<'a>,
    ) -> Result<Allocating<'a>, ApiError> {
        // Events tell of what happens; they are never refused for what they take.
        if !resource.namespaced || resource.kind == "Event" {
            return Ok(held);
        }
        let plural = resource.plural.as_str();
        let more = quota::usage(&resource.group, plural, object);
        let concerned = |held: &Arc<Value>| {
            quota::covers(held, plural, object)
                && quota::hard(held)
                    .keys()
                    .any(|name| more.contains_key(name) || plural == "pods")
        };
        if !self.held("resourcequotas", namespace).iter().any(concerned) {
            return Ok(held);
        }
        let held = held.unwrap_or_else(|| self.inner.allocating.lock().unwrap_or_else(PoisonError::into_inner));
        let there = self.store().list(&collection(resource), Some(namespace)).items;
        for one in self
            .held("resourcequotas", namespace)
            .iter()
            .filter(|one| concerned(one))
        {
            let counted = there.iter().filter(|there| quota::covers(one, plural, there));
            let used = quota::sum(counted.map(|there| quota::usage(&resource.group, plural, there)));
            if let Some(why) = quota::refusal(one, plural, object, &used, &more) {
                return Err(ApiError::forbidden(resource, meta::name(object), why));
            }
        }
        Ok(Some(held))
    }
}
