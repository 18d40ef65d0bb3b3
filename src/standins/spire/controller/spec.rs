//! From a ClusterSPIFFEID or ClusterStaticEntry that somebody wrote to one that can be acted on.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector as Labels;
use ztlab_identity::{SpiffeId, TrustDomain};

use super::{
    entry::Entry,
    kinds::{ClusterFederatedTrustDomainSpec, ClusterSpiffeIdSpec, ClusterStaticEntrySpec},
    template::{Template, TemplateError},
};
use crate::store::Selector;

/// Most templates, selectors, DNS names or trust domains of one object.
const MOST_ITEMS: usize = 100;

/// What is wrong with an object's spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no template of the SPIFFE ID.
    #[error("empty SPIFFEID template: set spiffeIDTemplate")]
    NoTemplate,
    /// A template does not read.
    #[error("{field}: {error}")]
    Template {
        /// Which.
        field: &'static str,
        /// Why.
        error: TemplateError,
    },
    /// A label selector does not read.
    #[error("{field}: {why}")]
    Labels {
        /// Which.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// A lifetime is none.
    #[error("{field}: `{value}` is no duration; write one as Go does, as `1h` or `90s`")]
    Ttl {
        /// Which.
        field: &'static str,
        /// What was there.
        value: String,
    },
    /// A name is none.
    #[error("{field}: `{value}`: {why}")]
    Name {
        /// Which.
        field: &'static str,
        /// What was there.
        value: String,
        /// Why.
        why: String,
    },
    /// There are more than anybody needs.
    #[error("{field}: {count} are more than {MOST_ITEMS}")]
    Many {
        /// Which.
        field: &'static str,
        /// How many.
        count: usize,
    },
}

/// A ClusterSPIFFEID's spec that was read.
#[derive(Debug)]
pub struct Registration {
    /// Of the SPIFFE ID.
    pub spiffe_id: Template,
    /// Of the DNS names.
    pub dns_names: Vec<Template>,
    /// Of selectors.
    pub selectors: Vec<Template>,
    /// Namespaces by their labels.
    pub namespaces: Labels,
    /// Pods by their labels.
    pub pods: Labels,
    /// Lifetime of X.509-SVIDs in seconds, zero for the server's default.
    pub x509_svid_ttl: i32,
    /// Lifetime of JWT-SVIDs in seconds, zero for the server's default.
    pub jwt_svid_ttl: i32,
    /// Whose bundles are needed.
    pub federates_with: BTreeSet<TrustDomain>,
    /// May use the server's management APIs.
    pub admin: bool,
    /// May sign as an intermediate CA.
    pub downstream: bool,
    /// Services' names become DNS names.
    pub auto_populate_dns_names: bool,
    /// Counts only where no other does.
    pub fallback: bool,
    /// What for.
    pub hint: String,
}

impl Registration {
    /// Reads a spec.
    ///
    /// # Errors
    /// When it could not be acted on for any pod.
    pub fn read(spec: &ClusterSpiffeIdSpec) -> Result<Self, SpecError> {
        if spec.spiffe_id_template.is_empty() {
            return Err(SpecError::NoTemplate);
        }
        Ok(Self {
            spiffe_id: template("spiffeIDTemplate", &spec.spiffe_id_template)?,
            dns_names: templates("dnsNameTemplates", &spec.dns_name_templates)?,
            selectors: templates("workloadSelectorTemplates", &spec.workload_selector_templates)?,
            namespaces: labels("namespaceSelector", spec.namespace_selector.as_ref())?,
            pods: labels("podSelector", spec.pod_selector.as_ref())?,
            x509_svid_ttl: ttl("ttl", &spec.ttl)?,
            jwt_svid_ttl: ttl("jwtTtl", &spec.jwt_ttl)?,
            federates_with: trust_domains(&spec.federates_with)?,
            admin: spec.admin,
            downstream: spec.downstream,
            auto_populate_dns_names: spec.auto_populate_dns_names,
            fallback: spec.fallback,
            hint: spec.hint.clone(),
        })
    }
}

/// Reads a ClusterStaticEntry's spec.
///
/// # Errors
/// When it is no registration entry.
pub fn static_entry(spec: &ClusterStaticEntrySpec) -> Result<Entry, SpecError> {
    within("selectors", spec.selectors.len())?;
    within("dnsNames", spec.dns_names.len())?;
    let selectors = spec.selectors.iter().map(|text| {
        Selector::parse(text).ok_or_else(|| SpecError::Name {
            field: "selectors",
            value: text.clone(),
            why: "a selector is `type:value`".into(),
        })
    });
    Ok(Entry {
        spiffe_id: id("spiffeID", &spec.spiffe_id)?,
        parent_id: id("parentID", &spec.parent_id)?,
        selectors: selectors.collect::<Result<_, _>>()?,
        x509_svid_ttl: ttl("x509SVIDTTL", &spec.x509_svid_ttl)?,
        jwt_svid_ttl: ttl("jwtSVIDTTL", &spec.jwt_svid_ttl)?,
        federates_with: trust_domains(&spec.federates_with)?,
        admin: spec.admin,
        downstream: spec.downstream,
        dns_names: spec.dns_names.clone(),
        hint: spec.hint.clone(),
        store_svid: spec.store_svid,
    })
}

/// Whether a ClusterFederatedTrustDomain's spec could be acted on.
///
/// # Errors
/// When it names no trust domain, no HTTPS URL, or no profile.
pub fn federated(spec: &ClusterFederatedTrustDomainSpec) -> Result<TrustDomain, SpecError> {
    let trust_domain = trust_domain("trustDomain", &spec.trust_domain)?;
    let wrong = |field, value: &str, why: &str| SpecError::Name {
        field,
        value: value.to_owned(),
        why: why.to_owned(),
    };
    let url = &spec.bundle_endpoint_url;
    let authority = url
        .parse::<http::Uri>()
        .ok()
        .filter(|url| url.scheme_str() == Some("https"))
        .and_then(|url| url.into_parts().authority)
        .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    if authority.is_none() {
        return Err(wrong(
            "bundleEndpointURL",
            url,
            "an https URL with a host and without userinfo is needed",
        ));
    }
    let profile = &spec.bundle_endpoint_profile;
    match profile.kind.as_str() {
        "https_web" => {}
        "https_spiffe" => {
            id("endpointSPIFFEID", &profile.endpoint_spiffe_id)?;
        }
        other => return Err(wrong("type", other, "a profile is `https_web` or `https_spiffe`")),
    }
    Ok(trust_domain)
}

fn within(field: &'static str, count: usize) -> Result<(), SpecError> {
    if count > MOST_ITEMS {
        return Err(SpecError::Many { field, count });
    }
    Ok(())
}

fn template(field: &'static str, text: &str) -> Result<Template, SpecError> {
    Template::parse(text).map_err(|error| SpecError::Template { field, error })
}

fn templates(field: &'static str, texts: &[String]) -> Result<Vec<Template>, SpecError> {
    within(field, texts.len())?;
    texts.iter().map(|text| template(field, text)).collect()
}

fn labels(field: &'static str, selector: Option<&LabelSelector>) -> Result<Labels, SpecError> {
    let wrong = |why: String| SpecError::Labels { field, why };
    let selector = selector.cloned().unwrap_or_default();
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.as_deref().unwrap_or_default();
        let has = matches!(requirement.operator.as_str(), "In" | "NotIn");
        if has == values.is_empty() {
            return Err(wrong(format!(
                "`{}`: {} values with operator {}",
                requirement.key,
                if has { "no" } else { "unexpected" },
                requirement.operator
            )));
        }
    }
    Labels::try_from(selector).map_err(|error| wrong(error.to_string()))
}

fn ttl(field: &'static str, text: &str) -> Result<i32, SpecError> {
    if text.is_empty() {
        return Ok(0);
    }
    super::duration(text)
        .and_then(|duration| i32::try_from(duration.as_secs()).ok())
        .ok_or_else(|| SpecError::Ttl {
            field,
            value: text.to_owned(),
        })
}

fn trust_domains(names: &[String]) -> Result<BTreeSet<TrustDomain>, SpecError> {
    within("federatesWith", names.len())?;
    names.iter().map(|name| trust_domain("federatesWith", name)).collect()
}

fn trust_domain(field: &'static str, name: &str) -> Result<TrustDomain, SpecError> {
    TrustDomain::new(name).map_err(|error| SpecError::Name {
        field,
        value: name.to_owned(),
        why: error.to_string(),
    })
}

fn id(field: &'static str, text: &str) -> Result<SpiffeId, SpecError> {
    SpiffeId::parse(text).map_err(|error| SpecError::Name {
        field,
        value: text.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt;
    use serde_json::json;

    use super::*;

    fn registration(changes: serde_json::Value) -> Result<Registration, SpecError> {
        let mut spec = json!({"spiffeIDTemplate": "spiffe://shop.test/a"});
        spec.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        Registration::read(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn without_selectors_everything_is_selected() {
        for changes in [json!({}), json!({"podSelector": {}, "namespaceSelector": {}})] {
            let read = registration(changes).unwrap();
            assert!(read.pods.selects_all() && read.namespaces.selects_all());
        }
    }

    #[test]
    fn labels_are_selected_as_kubernetes_does() {
        let read = registration(json!({"podSelector": {
            "matchLabels": {"app": "a"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}, {"key": "team", "operator": "Exists"}],
        }}))
        .unwrap();
        let matches = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            read.pods.matches(&labels)
        };
        assert!(matches(&[("app", "a"), ("team", "")]));
        assert!(matches(&[("app", "a"), ("team", ""), ("tier", "y")]));
        assert!(!matches(&[("app", "a"), ("team", ""), ("tier", "x")]));
        assert!(!matches(&[("app", "a")]));
        assert!(!matches(&[("team", "")]));
    }

    #[test]
    fn a_broken_spec_says_which_field_is_wrong() {
        for (changes, says) in [
            (json!({"spiffeIDTemplate": ""}), "spiffeIDTemplate"),
            (json!({"spiffeIDTemplate": "{{ .PodMeta"}), "spiffeIDTemplate"),
            (
                json!({"dnsNameTemplates": ["{{ x }}"]}),
                "dnsNameTemplates: invalid template: function \"x\" not defined",
            ),
            (
                json!({"workloadSelectorTemplates": ["{{"]}),
                "workloadSelectorTemplates",
            ),
            (json!({"ttl": "banana"}), "ttl: `banana` is no duration"),
            (json!({"jwtTtl": "-5m"}), "jwtTtl"),
            (json!({"ttl": "9000000h"}), "ttl"),
            (json!({"federatesWith": ["Not A Domain"]}), "federatesWith"),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                "podSelector",
            ),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}}),
                "podSelector",
            ),
            (
                json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}),
                "namespaceSelector",
            ),
            (json!({"dnsNameTemplates": vec!["a"; 101]}), "101 are more than 100"),
        ] {
            let error = registration(changes.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{changes}: {error}");
        }
    }

    #[test]
    fn a_static_entry_is_what_it_says() {
        let spec: ClusterStaticEntrySpec = serde_json::from_value(json!({
            "spiffeID": "spiffe://shop.test/db", "parentID": "spiffe://shop.test/spire/agent/x",
            "selectors": ["unix:uid:1000"], "x509SVIDTTL": "1h30m", "dnsNames": ["db"],
        }))
        .unwrap();
        let entry = static_entry(&spec).unwrap();
        assert_eq!(entry.x509_svid_ttl, 5400);
        assert_eq!(entry.selectors, [Selector::new("unix", "uid:1000")].into());
        for (field, value) in [("spiffeID", "x"), ("parentID", "spiffe://"), ("x509SVIDTTL", "1 hour")] {
            let mut broken = serde_json::to_value(json!({
                "spiffeID": "spiffe://shop.test/db", "parentID": "spiffe://shop.test/spire/agent/x", "selectors": ["a:b"],
            }))
            .unwrap();
            broken[field] = value.into();
            let error = static_entry(&serde_json::from_value(broken).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_federated_trust_domain_has_an_endpoint_that_can_be_known() {
        let spec = |url: &str, kind: &str, id: &str| {
            serde_json::from_value(json!({"trustDomain": "partner.test", "bundleEndpointURL": url,
                "bundleEndpointProfile": {"type": kind, "endpointSPIFFEID": id}}))
            .unwrap()
        };
        assert!(federated(&spec("https://partner.test:8443", "https_web", "")).is_ok());
        assert!(
            federated(&spec(
                "https://partner.test/b",
                "https_spiffe",
                "spiffe://partner.test/spire/server"
            ))
            .is_ok()
        );
        for (url, kind, id) in [
            ("http://partner.test", "https_web", ""),
            ("https://user:secret@partner.test", "https_web", ""),
            ("partner.test", "https_web", ""),
            ("https://partner.test", "web", ""),
            ("https://partner.test", "https_spiffe", ""),
        ] {
            assert!(federated(&spec(url, kind, id)).is_err(), "{url} {kind} {id}");
        }
    }
}
