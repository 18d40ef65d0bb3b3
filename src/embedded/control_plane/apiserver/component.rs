//! The door for the cluster's own parts in this process: the same requests and the same rules as for everybody, without a network
//! and without the limits of [`super::flow`].

use std::convert::Infallible;

use http::{HeaderValue, Request, header, request::Parts};

use super::{ApiError, ApiServer, UserInfo, authz, nodes, patience::Patience};

/// A part of the cluster that is a client of its API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The user that it is.
    pub user: UserInfo,
    /// Its program's name: it begins the `User-Agent` of its requests, and so names it in `managedFields`.
    pub program: &'static str,
}

impl Component {
    /// `user`, who runs `program`.
    pub fn new(user: UserInfo, program: &'static str) -> Self {
        Self { user, program }
    }

    fn agent(&self) -> HeaderValue {
        let agent = format!("{}/v{}", self.program, env!("CARGO_PKG_VERSION"));
        // Programs have plain names; an agent that cannot be said is not said.
        HeaderValue::from_str(&agent).unwrap_or(HeaderValue::from_static(""))
    }
}

impl ApiServer {
    /// A client for a component in this process.
    ///
    /// What it may not do is logged as well: it is a fault of the cluster's policy or of the component, which nobody may be there
    /// to see. Must be called within a tokio runtime. It cannot upgrade connections (exec, attach): those are for clients outside
    /// the node.
    pub fn client(&self, component: &Component) -> kube::Client {
        let server = self.clone();
        let (user, agent) = (component.user.clone(), component.agent());
        let service = tower::service_fn(move |mut request: Request<kube::client::Body>| {
            let (server, user) = (server.clone(), user.clone());
            request
                .headers_mut()
                .entry(header::USER_AGENT)
                .or_insert_with(|| agent.clone());
            let patience = Patience::default().body;
            async move {
                let enter = |parts: &Parts| {
                    server.admit_component(&user, parts)?;
                    Ok((user.clone(), None))
                };
                Ok::<_, Infallible>(server.handle(request, patience, enter).await)
            }
        });
        kube::Client::new(service, "default")
    }

    fn admit_component(&self, user: &UserInfo, parts: &Parts) -> Result<(), ApiError> {
        let asked = authz::attributes(parts)?;
        self.authorize(user, &asked).inspect_err(|refused| {
            let why = refused.0.message.as_deref().unwrap_or_default();
            if nodes::name_of(user).is_some() && nodes::may_in_general(&asked) {
                // The pod that gave the kubelet the right may have gone while it asked.
                tracing::debug!(component = user.name, why, "not the node's own, or not any more");
            } else {
                tracing::error!(component = user.name, why, "{REFUSED}");
            }
        })
    }
}

/// What the log says of a component that asked for more than it may: tests look for it.
pub const REFUSED: &str = "the cluster's own policy refuses a component what it asks for";
