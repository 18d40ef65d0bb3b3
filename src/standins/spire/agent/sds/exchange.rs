//! What is said on one stream: requests and changes in, answers out. Pure.
//!
//! As SPIRE has it, an answer goes out when the names that are asked for change, and whenever what the workload may have
//! does; a request that accepts or refuses an answer is known by its nonce, and one with an older nonce says nothing.

use std::collections::BTreeSet;

use tonic::Status;

use super::{
    Names,
    secrets::{NoAnswer, View, named},
};
use crate::api::{
    discovery::{DiscoveryRequest, DiscoveryResponse},
    envoy_core::Node,
};

/// The state of a stream.
#[derive(Default)]
pub struct Exchange {
    /// How often what the workload may have changed.
    version: u64,
    view: Option<View>,
    /// Of the last answer.
    nonce: Option<String>,
    request: Option<DiscoveryRequest>,
    node: Option<Node>,
    /// Something is to be said.
    due: bool,
}

impl Exchange {
    /// Takes a request.
    pub fn asked(&mut self, mut request: DiscoveryRequest) {
        if let Some(error) = &request.error_detail {
            tracing::error!(
                resources = named(&request.resource_names),
                error = error.message,
                "Envoy reported errors applying secrets"
            );
        }
        if let Some(nonce) = &self.nonce {
            if *nonce != request.response_nonce {
                tracing::warn!(nonce = request.response_nonce, expected = %nonce, "a request with an unexpected nonce is ignored");
                return;
            }
            if request.version_info != self.version.to_string() {
                // It may ask for other names all the same.
                tracing::error!(
                    version = request.version_info,
                    expected = self.version,
                    "Envoy stays with the version before"
                );
            }
        }
        // Envoy says who it is once a stream.
        if let Some(node) = request.node.take() {
            self.node = Some(node);
        }
        self.due |= self
            .request
            .as_ref()
            .is_none_or(|before| differ(&before.resource_names, &request.resource_names));
        self.request = Some(request);
    }

    /// Takes what the workload may have now.
    pub fn changed(&mut self, view: View) {
        if self.view.as_ref() == Some(&view) {
            return;
        }
        self.view = Some(view);
        self.version += 1;
        self.due = true;
    }

    /// What is to be said now, if anything; `nonce` names it.
    ///
    /// # Errors
    /// A refusal, which ends the stream.
    pub fn answer(&mut self, names: &Names, nonce: String) -> Result<Option<DiscoveryResponse>, Status> {
        let (true, Some(request), Some(view)) = (self.due, &self.request, &self.view) else {
            return Ok(None);
        };
        let resources = match view.secrets(&request.resource_names, self.node.as_ref(), names) {
            Ok(resources) => resources,
            // It is said when it has come; until then the last answer is the last truth there is.
            Err(NoAnswer::Pending) => return Ok(None),
            Err(NoAnswer::Refused(status)) => return Err(status),
        };
        self.due = false;
        self.nonce = Some(nonce.clone());
        Ok(Some(DiscoveryResponse {
            version_info: self.version.to_string(),
            resources,
            type_url: request.type_url.clone(),
            nonce,
        }))
    }
}

/// Whether two lists name different things; the order says nothing.
fn differ(before: &[String], now: &[String]) -> bool {
    // A stranger's list may be long: each name is looked for among the others in little time.
    let known: BTreeSet<&String> = before.iter().collect();
    before.len() != now.len() || now.iter().any(|name| !known.contains(name))
}
