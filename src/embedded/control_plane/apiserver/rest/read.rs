//! `get`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;

use super::super::{
    ApiServer, Body,
    dispatch::{self, Call},
    status::{ApiError, collection},
};
use crate::control_plane::api::Resource;

/// Answers `get`.
///
/// # Errors
/// 404.
pub fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let object = call.server.read(&call.resource, call.namespace(), call.name()?)?;
    Ok(dispatch::object(call, StatusCode::OK, &object))
}

impl ApiServer {
    /// One object as it is stored.
    ///
    /// # Errors
    /// 404.
    pub(in super::super) fn read(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Value>, ApiError> {
        self.store()
            .get(&collection(resource).object(namespace, name))
            .ok_or_else(|| ApiError::not_found(resource, name))
    }
}
