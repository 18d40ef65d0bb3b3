//! From a request to whoever answers it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, request::Parts};

use super::{
    ApiServer, Body, UserInfo, discovery, eviction, health,
    negotiate::{self, Form},
    pods, proxy, reply,
    request::{Query, ResourcePath, Target},
    rest, reviews, scale, snapshots,
    status::ApiError,
    tokens, watch,
};
use crate::control_plane::api::{Resource, table::IncludeObject};

/// A request for a resource.
pub struct Call {
    pub server: ApiServer,
    pub user: UserInfo,
    pub method: Method,
    pub headers: HeaderMap,
    pub extensions: http::Extensions,
    pub path: ResourcePath,
    pub query: Query,
    pub resource: Arc<Resource>,
    pub form: Form,
    pub include: IncludeObject,
    pub body: Bytes,
}

impl Call {
    /// The namespace in the path; empty for the cluster.
    pub fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }

    /// The name in the path.
    ///
    /// # Errors
    /// 405 where the path has none.
    pub fn name(&self) -> Result<&str, ApiError> {
        self.path.name.as_deref().ok_or_else(ApiError::method_not_allowed)
    }

    /// The media type of the body, without parameters.
    pub fn content_type(&self) -> &str {
        let value = self
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        value
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
    }
}

/// Answers a request that its user may make.
///
/// # Errors
/// Whatever the client did wrong, as a `Status`.
pub async fn answer(server: &ApiServer, parts: Parts, body: Bytes, user: UserInfo) -> Result<Response<Body>, ApiError> {
    let path = match Target::parse(parts.uri.path())? {
        Target::Resource(path) => path,
        Target::Other(segments) => {
            if segments.first().is_some_and(|first| first == snapshots::ROOT) {
                return snapshots::answer(server, &user, &parts.method, &segments, parts.uri.query()).await;
            }
            let form = negotiate::form(&parts.headers).unwrap_or(Form::Object);
            return discovery::answer(server, &parts.method, &segments, form, &parts.headers);
        }
    };
    let registry = server.registry();
    let resource = registry
        .find(&path.group, &path.version, &path.resource)
        .cloned()
        .ok_or_else(ApiError::no_such_path)?;
    if !resource.namespaced && path.namespace.is_some() || resource.namespaced && is_unplaced(&path) {
        return Err(ApiError::no_such_path());
    }
    let mut path = path;
    let proxied = resource.group.is_empty()
        && matches!(resource.plural.as_str(), "pods" | "services")
        && proxy::is_meant(path.subresource.as_deref());
    if proxied {
        path.subresource = Some("proxy".to_owned());
    }
    let query = Query::parse(parts.uri.query())?;
    let verb = verb(&parts.method, &path, &query)?;
    let include = match query.get("includeObject") {
        // a proxied request's query is the pod's
        Some(_) if proxied => IncludeObject::default(),
        None => IncludeObject::default(),
        Some(text) => IncludeObject::parse(text)
            .ok_or_else(|| ApiError::bad_request(format!("unrecognized includeObject value: {text:?}")))?,
    };
    // Streams and upgrades answer in their own media types.
    let form = match path.subresource.as_deref() {
        Some("log" | "exec" | "attach" | "portforward" | "proxy") => Form::Object,
        _ => negotiate::form(&parts.headers)?,
    };
    let call = Call {
        server: server.clone(),
        user,
        method: parts.method,
        headers: parts.headers,
        extensions: parts.extensions,
        path,
        query,
        resource,
        form,
        include,
        body,
    };
    if proxied {
        return proxy::answer(call, parts.uri).await;
    }
    let warning = call.resource.custom.as_ref().and_then(|custom| custom.warning.clone());
    let mut response = route(call, verb).await?;
    reply::warn(&mut response, &Vec::from_iter(warning));
    Ok(response)
}

/// A namespaced object can only be addressed within a namespace; lists over all namespaces have no name.
fn is_unplaced(path: &ResourcePath) -> bool {
    path.namespace.is_none() && path.name.is_some()
}

async fn route(call: Call, verb: &str) -> Result<Response<Body>, ApiError> {
    let group = call.resource.group.as_str();
    if group == "authentication.k8s.io" || group == "authorization.k8s.io" {
        return reviews::answer(&call);
    }
    if let Some(subresource) = call.path.subresource.clone() {
        return route_subresource(call, &subresource, verb).await;
    }
    if !call.resource.serves(verb) {
        return Err(ApiError::method_not_allowed());
    }
    match verb {
        "create" if call.resource.kind == "Binding" => pods::bind(&call, None),
        _ if call.resource.kind == "ComponentStatus" && call.resource.builtin => health::answer(&call, verb),
        "get" => rest::get(&call),
        "list" => rest::list(&call),
        "watch" => watch::answer(&call),
        "create" => rest::create(&call),
        "update" => rest::replace(&call, rest::Part::Main),
        "patch" => rest::patch(&call, rest::Part::Main),
        "delete" => rest::delete(&call),
        "deletecollection" => rest::delete_collection(&call),
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn route_subresource(call: Call, subresource: &str, verb: &str) -> Result<Response<Body>, ApiError> {
    let known = call
        .resource
        .subresource(subresource)
        .ok_or_else(ApiError::no_such_path)?;
    if !known.verbs.iter().any(|served| served == verb) {
        return Err(ApiError::method_not_allowed());
    }
    let part = match subresource {
        "status" => rest::Part::Status,
        "finalize" => rest::Part::Finalize,
        "ephemeralcontainers" => rest::Part::EphemeralContainers,
        "resize" => rest::Part::Resize,
        "approval" => rest::Part::Approval,
        "scale" => return scale::answer(&call, verb),
        "token" => return tokens::answer(&call),
        "binding" => return pods::bind(&call, Some(call.name()?)),
        "eviction" => return eviction::answer(&call),
        "log" => return pods::log(&call).await,
        "exec" => return pods::exec(call, pods::Join::Exec).await,
        "attach" => return pods::exec(call, pods::Join::Attach).await,
        "portforward" => return pods::port_forward(call),
        _ => {
            return Err(ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                format!(
                    "{}/{subresource} is not implemented by this server",
                    call.resource.plural
                ),
            ));
        }
    };
    match verb {
        "get" => rest::get(&call),
        "update" => rest::replace(&call, part),
        "patch" => rest::patch(&call, part),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Result<&'static str, ApiError> {
    Ok(match (method, path.name.is_some()) {
        (&Method::GET | &Method::HEAD, true) => "get",
        (&Method::GET | &Method::HEAD, false) if query.flag("watch") => "watch",
        (&Method::GET | &Method::HEAD, false) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, true) => "update",
        (&Method::PATCH, true) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => return Err(ApiError::method_not_allowed()),
    })
}

/// An object as the answer, in the form the client wants.
pub fn object(call: &Call, code: StatusCode, object: &Arc<serde_json::Value>) -> Response<Body> {
    reply::json(code, &reply::in_form(&call.resource, call.form, call.include, object))
}
