//! A pod and the node it is on become a registration entry. Pure.

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod};
use ztlab_identity::{SpiffeId, TrustDomain};

use super::{
    entry::Entry,
    facts::Facts,
    spec::Registration,
    template::{Template, TemplateError},
};
use crate::store::Selector;

/// What holds for the whole cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Whose identities.
    pub trust_domain: TrustDomain,
    /// The cluster's name.
    pub name: String,
    /// The domain of the cluster's DNS.
    pub domain: String,
    /// Of the SPIFFE ID of a node's agent.
    pub parent: Template,
}

/// SPIRE's default for the SPIFFE ID of a node's agent.
pub const PARENT: &str = "spiffe://{{ .TrustDomain }}/spire/agent/k8s_psat/{{ .ClusterName }}/{{ .NodeMeta.UID }}";

/// Why a pod gets no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template does not work on this pod.
    #[error("failed to render {what}: {error}")]
    Template {
        /// What it should have made.
        what: &'static str,
        /// Why.
        error: TemplateError,
    },
    /// What was made is no SPIFFE ID, or not one that a workload may have.
    #[error("failed to render {what}: `{made}`: {why}{}", if made.contains(NO_VALUE) { NO_VALUE_HINT } else { "" })]
    Id {
        /// Which.
        what: &'static str,
        /// What was made.
        made: String,
        /// Why.
        why: String,
    },
    /// What was made is no selector.
    #[error("failed to render workload selector: `{0}` is not of the form type:value")]
    Selector(String),
    /// The pod has no UID.
    #[error("the pod has no UID")]
    NoUid,
}

const NO_VALUE: &str = "<no value>";
const NO_VALUE_HINT: &str = "; the template asks for a label or annotation that is not there";

/// The entry of `pod` on `node`; `endpoints` are those that have the pod in them.
///
/// # Errors
/// When it cannot be made from this pod.
pub fn pod_entry<'a>(
    registration: &Registration,
    cluster: &Cluster,
    node: &Node,
    pod: &Pod,
    endpoints: impl IntoIterator<Item = &'a Endpoints>,
) -> Result<Entry, RenderError> {
    let uid = pod
        .metadata
        .uid
        .as_deref()
        .filter(|uid| !uid.is_empty())
        .ok_or(RenderError::NoUid)?;
    let mut facts = Facts {
        trust_domain: cluster.trust_domain.as_str(),
        cluster_name: &cluster.name,
        cluster_domain: &cluster.domain,
        node,
        pod: None,
    };
    let parent_id = id("parent ID", &cluster.parent, &facts, &cluster.trust_domain)?;
    facts.pod = Some(pod);
    let spiffe_id = id("SPIFFE ID", &registration.spiffe_id, &facts, &cluster.trust_domain)?;
    reserved(&spiffe_id)?;
    let mut dns_names: Vec<String> = Vec::new();
    for template in &registration.dns_names {
        add(&mut dns_names, text("DNS name", template, &facts)?);
    }
    if registration.auto_populate_dns_names {
        let mut services: Vec<String> = endpoints
            .into_iter()
            .flat_map(|endpoints| service_names(endpoints, &cluster.domain))
            .collect();
        services.sort();
        services.into_iter().for_each(|name| add(&mut dns_names, name));
    }
    let mut selectors = std::collections::BTreeSet::from([Selector::new("k8s", format!("pod-uid:{uid}"))]);
    for template in &registration.selectors {
        let made = text("workload selector", template, &facts)?;
        selectors.insert(Selector::parse(&made).ok_or(RenderError::Selector(made))?);
    }
    Ok(Entry {
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl: registration.x509_svid_ttl,
        jwt_svid_ttl: registration.jwt_svid_ttl,
        federates_with: registration.federates_with.clone(),
        admin: registration.admin,
        downstream: registration.downstream,
        dns_names,
        hint: registration.hint.clone(),
        store_svid: false,
    })
}

fn text(what: &'static str, template: &Template, facts: &Facts<'_>) -> Result<String, RenderError> {
    template
        .render(facts)
        .map_err(|error| RenderError::Template { what, error })
}

fn id(what: &'static str, template: &Template, facts: &Facts<'_>, ours: &TrustDomain) -> Result<SpiffeId, RenderError> {
    let made = text(what, template, facts)?;
    let wrong = |why: String| RenderError::Id {
        what,
        made: made.clone(),
        why,
    };
    let id = SpiffeId::parse(&made).map_err(|error| wrong(error.to_string()))?;
    if id.trust_domain() != ours {
        return Err(wrong(format!("expected trust domain `{ours}`")));
    }
    if id.path().is_root() {
        return Err(wrong(
            "it has no path, so it is the trust domain's and not a workload's".into(),
        ));
    }
    Ok(id)
}

fn reserved(id: &SpiffeId) -> Result<(), RenderError> {
    if id.path().segments().next() == Some("spire") {
        return Err(RenderError::Id {
            what: "SPIFFE ID",
            made: id.to_string(),
            why: "/spire is reserved for SPIRE's own identities".into(),
        });
    }
    Ok(())
}

fn service_names(endpoints: &Endpoints, domain: &str) -> Vec<String> {
    let (Some(name), Some(namespace)) = (&endpoints.metadata.name, &endpoints.metadata.namespace) else {
        return Vec::new();
    };
    let mut names = vec![
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
    ];
    if !domain.is_empty() {
        names.push(format!("{name}.{namespace}.svc.{domain}"));
    }
    names
}

fn add(names: &mut Vec<String>, name: String) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// The UIDs of the pods in `endpoints`, ready or not.
pub fn pods_in(endpoints: &Endpoints) -> impl Iterator<Item = &str> {
    let addresses = endpoints.subsets.iter().flatten().flat_map(|subset| {
        let ready = subset.addresses.iter().flatten();
        ready.chain(subset.not_ready_addresses.iter().flatten())
    });
    addresses.filter_map(|address| {
        let target = address
            .target_ref
            .as_ref()
            .filter(|target| target.kind.as_deref() == Some("Pod"))?;
        target.uid.as_deref()
    })
}

#[cfg(test)]
mod tests;
