//! The answers of the Workload API as types that cannot be invalid (SPIFFE Workload API sections 4.5, 5.2 and 6.2).

use std::collections::HashMap;

use thiserror::Error;
use tracing::warn;
use ztlab_identity::{
    BundleError, IdError, JwtBundle, JwtBundleSet, JwtError, JwtSvid, SpiffeId, TrustDomain, X509Bundle, X509BundleSet,
    X509Context, X509Error, X509Svid,
};

use crate::api::workload::{JwtsvidResponse, X509svidResponse};

/// Which rule of the standard an answer breaks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A mandatory field is empty.
    #[error("the Workload API's answer has an empty {0}")]
    Empty(&'static str),
    /// Not a SPIFFE ID, or not the trust domain's own where one must be.
    #[error("the Workload API's answer names {text:?}, which is no SPIFFE ID that belongs there: {reason}")]
    Id {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The X.509-SVID of an id is none.
    #[error("the Workload API's answer for {id}: {error}")]
    X509 {
        /// Whose it should be.
        id: SpiffeId,
        /// What is wrong with it.
        error: X509Error,
    },
    /// The JWT-SVID of an id is none.
    #[error("the Workload API's answer for {id}: {error}")]
    Jwt {
        /// Whose it should be.
        id: SpiffeId,
        /// What is wrong with it.
        error: JwtError,
    },
    /// An SVID is another's than the answer says.
    #[error("the Workload API's answer says that the SVID is for {said}, but it is for {found}")]
    OtherId {
        /// What the answer says.
        said: SpiffeId,
        /// What the SVID says.
        found: SpiffeId,
    },
    /// The keys of a trust domain are none.
    #[error("the Workload API's answer for the trust domain {trust_domain}: {error}")]
    Bundle {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        error: BundleError,
    },
    /// Two bundles for one trust domain.
    #[error("the Workload API's answer has two bundles for the trust domain {0}: which one holds?")]
    TwoBundles(TrustDomain),
}

/// The workload's SVIDs and the bundles it may verify peers with. A foreign bundle that cannot be read is left out, so that its
/// domain is not trusted: it must not keep the workload from its own rotation.
pub(super) fn x509_context(message: X509svidResponse) -> Result<X509Context, MessageError> {
    let mut bundles = X509BundleSet::default();
    let mut svids = Vec::new();
    for entry in message.svids {
        let id = id(&entry.spiffe_id)?;
        for (field, value) in [
            ("x509_svid", &entry.x509_svid),
            ("x509_svid_key", &entry.x509_svid_key),
            ("bundle", &entry.bundle),
        ] {
            if value.is_empty() {
                return Err(MessageError::Empty(field));
            }
        }
        let broken = |error| MessageError::X509 { id: id.clone(), error };
        let svid = X509Svid::from_der(&entry.x509_svid, &entry.x509_svid_key).map_err(broken)?;
        let bundle = X509Bundle::from_der(id.trust_domain().clone(), &entry.bundle).map_err(broken)?;
        if *svid.id() != id {
            let found = svid.id().clone();
            return Err(MessageError::OtherId { said: id, found });
        }
        match bundles.insert(bundle.clone()) {
            Some(before) if before != bundle => return Err(MessageError::TwoBundles(id.trust_domain().clone())),
            _ => svids.push(svid.with_hint(&entry.hint)),
        }
    }
    for (name, der) in &message.federated_bundles {
        let trust_domain = trust_domain(name)?;
        if bundles.get(&trust_domain).is_some() {
            return Err(MessageError::TwoBundles(trust_domain));
        }
        match X509Bundle::from_der(trust_domain.clone(), der) {
            Ok(bundle) => drop(bundles.insert(bundle)),
            Err(error) => warn!("the bundle of {trust_domain} is left out, which is then not trusted: {error}"),
        }
    }
    X509Context::new(svids, bundles).map_err(|_| MessageError::Empty("svids"))
}

/// The workload's tokens, the default first.
pub(super) fn jwt_svids(message: JwtsvidResponse) -> Result<Vec<JwtSvid>, MessageError> {
    let mut svids = Vec::new();
    for entry in message.svids {
        let said = id(&entry.spiffe_id)?;
        let svid = JwtSvid::read_unverified(&entry.svid).map_err(|error| MessageError::Jwt {
            id: said.clone(),
            error,
        })?;
        if *svid.id() != said {
            let found = svid.id().clone();
            return Err(MessageError::OtherId { said, found });
        }
        svids.push(svid.with_hint(&entry.hint));
    }
    if svids.is_empty() {
        return Err(MessageError::Empty("svids"));
    }
    Ok(svids)
}

/// The keys for JWT-SVIDs of all trust domains that the workload may trust.
pub(super) fn jwt_bundles(bundles: &HashMap<String, Vec<u8>>) -> Result<JwtBundleSet, MessageError> {
    if bundles.is_empty() {
        return Err(MessageError::Empty("bundles"));
    }
    let mut found = JwtBundleSet::default();
    for (name, json) in bundles {
        let trust_domain = trust_domain(name)?;
        let bundle = JwtBundle::from_json(trust_domain.clone(), json).map_err(|error| MessageError::Bundle {
            trust_domain: trust_domain.clone(),
            error,
        })?;
        if found.insert(bundle).is_some() {
            return Err(MessageError::TwoBundles(trust_domain));
        }
    }
    Ok(found)
}

pub(super) fn id(text: &str) -> Result<SpiffeId, MessageError> {
    SpiffeId::parse(text).map_err(|error: IdError| MessageError::Id {
        text: text.chars().take(200).collect(),
        reason: error.to_string(),
    })
}

/// Bundles are keyed by the SPIFFE ID of the trust domain.
fn trust_domain(text: &str) -> Result<TrustDomain, MessageError> {
    let id = id(text)?;
    if id.path().is_root() {
        return Ok(id.trust_domain().clone());
    }
    Err(MessageError::Id {
        text: text.chars().take(200).collect(),
        reason: "a trust domain's has no path".to_owned(),
    })
}
