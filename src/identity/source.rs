//! Where the current SVID and bundles come from: they are replaced while connections go on.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use thiserror::Error;

use crate::{SpiffeId, X509BundleSet, X509Svid};

/// What a workload has at one moment to prove who it is and to verify who others are: the answer of the Workload API
/// (SPIFFE Workload API section 5.2.1). It has at least one SVID.
#[derive(Debug, Clone)]
pub struct X509Context {
    svids: Vec<X509Svid>,
    bundles: X509BundleSet,
}

/// A workload without an identity has no context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no X.509-SVID: the workload has no identity, so look at its registration entries")]
pub struct NoSvid;

impl X509Context {
    /// Joins SVIDs, the default first, and the bundles of all trust domains that the workload may trust.
    ///
    /// # Errors
    /// [`NoSvid`], when there is none.
    pub fn new(svids: Vec<X509Svid>, bundles: X509BundleSet) -> Result<X509Context, NoSvid> {
        if svids.is_empty() {
            return Err(NoSvid);
        }
        Ok(X509Context { svids, bundles })
    }

    /// The SVID to use where nothing says which: the first.
    pub fn default_svid(&self) -> &X509Svid {
        &self.svids[0]
    }

    /// The first SVID with this hint.
    pub fn svid_of_hint(&self, hint: &str) -> Option<&X509Svid> {
        self.svids.iter().find(|svid| svid.hint() == hint)
    }

    /// The first SVID of this id.
    pub fn svid_of_id(&self, id: &SpiffeId) -> Option<&X509Svid> {
        self.svids.iter().find(|svid| svid.id() == id)
    }

    /// All SVIDs, the default first.
    pub fn svids(&self) -> &[X509Svid] {
        &self.svids
    }

    /// The bundles.
    pub fn bundles(&self) -> &X509BundleSet {
        &self.bundles
    }
}

/// Gives what is current at the moment of the call. Called in every handshake: it must not wait.
pub trait Source: fmt::Debug + Send + Sync {
    /// What is current; nothing before the first answer, and after the identity was taken away.
    fn current(&self) -> Option<Arc<X509Context>>;
}

/// A source that its owner sets: the Workload API's client does, and tests do.
#[derive(Debug, Default)]
pub struct Live(RwLock<Option<Arc<X509Context>>>);

impl Live {
    /// With a context, or with nothing yet.
    pub fn new(context: Option<X509Context>) -> Live {
        Live(RwLock::new(context.map(Arc::new)))
    }

    /// Puts another context in the place of the one that was current, or nothing.
    pub fn set(&self, context: Option<X509Context>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = context.map(Arc::new);
    }
}

impl Source for Live {
    fn current(&self) -> Option<Arc<X509Context>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
