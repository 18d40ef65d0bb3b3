//! The API server.
//!
//! One request's way: [`server`] (TLS, HTTP, who asks) → [`authz`] (may they) → [`dispatch`] (what is asked) → [`rest`] (objects:
//! decode, validate, admit, store) or [`pods`] and friends (subresources that are not objects) → [`reply`] (the form
//! the client reads). Components inside the node come by a door of their own ([`component`]), and take the
//! same way from there.
//!
//! Source: Kubernetes' "API concepts" and "API access control".

mod admission;
mod authn;
mod authz;
mod bootstrap;
mod certificates;
mod component;
mod definitions;
mod discovery;
mod dispatch;
mod events;
mod eviction;
mod flow;
mod health;
mod jobs;
mod managed_fields;
mod meta;
mod negotiate;
mod nodes;
mod patience;
mod pod_security;
mod pods;
mod priority;
mod proxy;
mod quota;
mod reply;
mod request;
mod rest;
mod reviews;
mod scale;
mod server;
mod services;
mod snapshots;
pub mod spdy;
mod status;
mod storage;
mod streams;
mod tokens;
mod watch;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use ipnet::Ipv4Net;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use authn::UserInfo;
pub use component::{Component, REFUSED};
pub use health::Check;
pub use status::ApiError;
pub use streams::fuzz as fuzz_streams;

use super::{pki::TokenKey, snapshot::content::Places, storage::Store};
use crate::kubelet_api::KubeletApi;

/// A response's body.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Largest request body, as kube-apiserver has it.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Exec, attach, port-forward and proxy connections served at once; most have left the HTTP server, which bounds the others.
const MAX_STREAMS: usize = 256;

/// One of all places for streaming connections, and one of its user's.
type StreamSlot = (OwnedSemaphorePermit, Option<flow::Share<String>>);

/// What the API server is made of.
pub struct ApiServerConfig {
    /// Where objects are kept.
    pub store: Store,
    /// Signs and checks service-account tokens.
    pub token_key: Arc<TokenKey>,
    /// The cluster CA's certificate as PEM; every namespace gets it as the ConfigMap `kube-root-ca.crt`.
    pub ca_certificate: String,
    /// The address at which clients reach the server, `host:port`.
    pub address: String,
    /// The range that Services get their addresses from; its first is the Service `kubernetes`.
    pub services: Ipv4Net,
    /// Where snapshots are kept, and what they hold besides objects; `None` keeps none.
    pub snapshots: Option<Places>,
}

/// The API server. A clone is another handle on the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    definitions: definitions::Definitions,
    authorizer: authz::Authorizer,
    kubelet: RwLock<Option<Arc<dyn KubeletApi>>>,
    token_key: Arc<TokenKey>,
    ca_certificate: String,
    address: String,
    services: Ipv4Net,
    snapshots: Option<Places>,
    /// Held while a snapshot is taken, restored or removed.
    snapshotting: tokio::sync::Mutex<()>,
    /// Held while an address or port of a Service is chosen and stored, so that none is given twice.
    allocating: Mutex<()>,
    /// One for every exec, attach and port-forward that is open.
    stream_slots: Arc<Semaphore>,
    /// Who has how much under way.
    flow: flow::Flow,
    /// How the components of the control plane are asked how they do, by their name.
    checks: Mutex<BTreeMap<&'static str, Check>>,
    /// When old events were last looked for.
    events_swept: Mutex<Option<std::time::Instant>>,
}

impl ApiServer {
    /// A server with the objects that every cluster has: its namespaces with their service accounts, and the Service
    /// `kubernetes`.
    pub fn new(config: ApiServerConfig) -> Self {
        let server = Self {
            inner: Arc::new(Inner {
                store: config.store,
                definitions: definitions::Definitions::default(),
                authorizer: authz::Authorizer::default(),
                kubelet: RwLock::new(None),
                token_key: config.token_key,
                ca_certificate: config.ca_certificate,
                address: config.address,
                services: config.services,
                snapshots: config.snapshots,
                snapshotting: tokio::sync::Mutex::new(()),
                allocating: Mutex::new(()),
                stream_slots: Arc::new(Semaphore::new(MAX_STREAMS)),
                flow: flow::Flow::default(),
                checks: Mutex::default(),
                events_swept: Mutex::new(None),
            }),
        };
        server.bootstrap();
        server
    }

    /// Sets whom to ask for logs, exec, attach and port-forward.
    pub fn set_kubelet(&self, kubelet: Arc<dyn KubeletApi>) {
        *self.inner.kubelet.write().unwrap_or_else(PoisonError::into_inner) = Some(kubelet);
    }

    fn kubelet(&self) -> Result<Arc<dyn KubeletApi>, ApiError> {
        let kubelet = self.inner.kubelet.read().unwrap_or_else(PoisonError::into_inner);
        kubelet
            .clone()
            .ok_or_else(|| ApiError::unavailable("the node is not ready to stream yet"))
    }

    /// A place for one more streaming connection of a user.
    fn stream_slot(&self, user: &UserInfo) -> Result<StreamSlot, ApiError> {
        let share = self.inner.flow.stream(user)?;
        let slot = self.inner.stream_slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| {
            let message =
                format!("{MAX_STREAMS} exec, attach, port-forward and proxy connections are open: close some first");
            ApiError::new(http::StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        })?;
        Ok((slot, share))
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }
}

#[cfg(test)]
mod tests;
