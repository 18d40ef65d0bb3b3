//! Between the messages of the APIs and what is remembered.

use std::collections::BTreeSet;

use x509_parser::prelude::{FromDer, X509Certificate};
use ztlab_identity::{Path, SpiffeId, TrustDomain};

use crate::{
    api::types,
    refusal::Refusal,
    store::{Agent, Bundle, Entry, JwtAuthority, Relationship, Selector, X509Authority},
};

/// Most authorities of one kind in a bundle.
const MOST_AUTHORITIES: usize = 1000;
/// Longest certificate or key, in bytes.
const LONGEST_AUTHORITY: usize = 64 * 1024;

/// The message of a SPIFFE ID.
pub fn id_message(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().to_string(),
    }
}

/// Reads a SPIFFE ID.
pub fn id(message: Option<&types::Spiffeid>) -> Result<SpiffeId, Refusal> {
    let message = message.ok_or_else(|| Refusal::invalid("request must specify SPIFFE ID"))?;
    let trust_domain = trust_domain(&message.trust_domain)?;
    let path = Path::new(&message.path).map_err(|error| Refusal::invalid(error.to_string()))?;
    SpiffeId::new(trust_domain, path).map_err(|error| Refusal::invalid(error.to_string()))
}

/// Reads the name of a trust domain, or its SPIFFE ID.
pub fn trust_domain(text: &str) -> Result<TrustDomain, Refusal> {
    let read = if text.contains("://") {
        SpiffeId::parse(text).map(|id| id.trust_domain().clone())
    } else {
        TrustDomain::new(text)
    };
    read.map_err(|error| Refusal::invalid(format!("`{text}` names no trust domain: {error}")))
}

/// The message of an entry.
pub fn entry_message(entry: &Entry) -> types::Entry {
    let additional_attributes = (entry.disable_x509_svid_prefetch || entry.jwt_svid_include_jti).then_some(
        types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
            jwt_svid_include_jti: entry.jwt_svid_include_jti,
        },
    );
    types::Entry {
        id: entry.id.clone(),
        spiffe_id: Some(id_message(&entry.spiffe_id)),
        parent_id: Some(id_message(&entry.parent_id)),
        selectors: selector_messages(&entry.selectors),
        x509_svid_ttl: i32::try_from(entry.x509_svid_ttl).unwrap_or(i32::MAX),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.expires_at,
        dns_names: entry.dns_names.clone(),
        revision_number: entry.revision,
        store_svid: entry.store_svid,
        jwt_svid_ttl: i32::try_from(entry.jwt_svid_ttl).unwrap_or(i32::MAX),
        hint: entry.hint.clone(),
        created_at: entry.created_at,
        additional_attributes,
    }
}

/// The message of an entry with only the fields of `mask`; without one, all.
pub fn masked_entry(entry: &Entry, mask: Option<&types::EntryMask>) -> types::Entry {
    let mut message = entry_message(entry);
    let Some(mask) = mask else { return message };
    macro_rules! keep {
        ($($field:ident),*) => {
            $(if !mask.$field { message.$field = Default::default(); })*
        };
    }
    keep!(
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        revision_number,
        store_svid,
        jwt_svid_ttl,
        hint,
        created_at,
        additional_attributes
    );
    message
}

/// The messages of selectors.
pub fn selector_messages(selectors: &BTreeSet<Selector>) -> Vec<types::Selector> {
    selectors
        .iter()
        .map(|one| types::Selector {
            r#type: one.kind.clone(),
            value: one.value.clone(),
        })
        .collect()
}

/// Reads selectors.
pub fn selectors(messages: &[types::Selector]) -> Result<BTreeSet<Selector>, Refusal> {
    messages
        .iter()
        .map(|one| {
            if one.r#type.is_empty() {
                return Err(Refusal::invalid("missing selector type"));
            }
            if one.r#type.contains(':') {
                return Err(Refusal::invalid("selector type contains ':'"));
            }
            if one.value.is_empty() {
                return Err(Refusal::invalid("missing selector value"));
            }
            Ok(Selector::new(one.r#type.clone(), one.value.clone()))
        })
        .collect()
}

/// The message of a bundle, with only the fields of `mask`; without one, all.
pub fn bundle_message(name: &TrustDomain, bundle: &Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let all = types::BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
    };
    let mask = mask.unwrap_or(&all);
    let mut message = types::Bundle {
        trust_domain: name.to_string(),
        ..types::Bundle::default()
    };
    if mask.x509_authorities {
        message.x509_authorities = bundle
            .x509
            .iter()
            .map(|one| types::X509Certificate {
                asn1: one.der.clone(),
                tainted: one.tainted,
            })
            .collect();
    }
    if mask.jwt_authorities {
        message.jwt_authorities = bundle.jwt.iter().map(jwt_message).collect();
    }
    if mask.refresh_hint {
        message.refresh_hint = bundle.refresh_hint;
    }
    if mask.sequence_number {
        message.sequence_number = bundle.sequence;
    }
    message
}

/// The message of a JWT authority.
pub fn jwt_message(one: &JwtAuthority) -> types::JwtKey {
    types::JwtKey {
        public_key: one.public_key.clone(),
        key_id: one.key_id.clone(),
        expires_at: one.expires_at,
        tainted: one.tainted,
    }
}

/// Reads a bundle and whose it is.
pub fn bundle(message: &types::Bundle) -> Result<(TrustDomain, Bundle), Refusal> {
    let name = trust_domain(&message.trust_domain)
        .map_err(|refusal| refusal.while_doing("trust domain argument is not valid"))?;
    if message.refresh_hint < 0 {
        return Err(Refusal::invalid("the refresh hint is below zero"));
    }
    let bundle = Bundle {
        x509: x509_authorities(&message.x509_authorities)?,
        jwt: jwt_authorities(&message.jwt_authorities)?,
        refresh_hint: message.refresh_hint,
        sequence: message.sequence_number,
    };
    Ok((name, bundle))
}

/// Reads X.509 authorities.
pub fn x509_authorities(messages: &[types::X509Certificate]) -> Result<Vec<X509Authority>, Refusal> {
    within_limit(messages.len())?;
    messages
        .iter()
        .map(|one| {
            let expires_at = certificate_end(&one.asn1)
                .ok_or_else(|| Refusal::invalid("unable to parse X.509 authority: it is no certificate"))?;
            Ok(X509Authority {
                der: one.asn1.clone(),
                expires_at,
                tainted: one.tainted,
            })
        })
        .collect()
}

/// Reads JWT authorities.
pub fn jwt_authorities(messages: &[types::JwtKey]) -> Result<Vec<JwtAuthority>, Refusal> {
    within_limit(messages.len())?;
    messages
        .iter()
        .map(|one| {
            if one.key_id.is_empty() {
                return Err(Refusal::invalid("unable to parse JWT authority: missing key ID"));
            }
            if one.public_key.is_empty() || one.public_key.len() > LONGEST_AUTHORITY {
                return Err(Refusal::invalid("unable to parse JWT authority: invalid public key"));
            }
            if x509_parser::x509::SubjectPublicKeyInfo::from_der(&one.public_key).is_err() {
                return Err(Refusal::invalid("unable to parse JWT authority: invalid public key"));
            }
            Ok(JwtAuthority {
                key_id: one.key_id.clone(),
                public_key: one.public_key.clone(),
                expires_at: one.expires_at,
                tainted: one.tainted,
            })
        })
        .collect()
}

fn within_limit(count: usize) -> Result<(), Refusal> {
    if count > MOST_AUTHORITIES {
        return Err(Refusal::invalid(format!(
            "{count} authorities are more than {MOST_AUTHORITIES}"
        )));
    }
    Ok(())
}

/// When a certificate ends, in seconds of the Unix epoch; `None` if it is none.
pub fn certificate_end(der: &[u8]) -> Option<i64> {
    if der.len() > LONGEST_AUTHORITY {
        return None;
    }
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| certificate.validity().not_after.timestamp())
}

/// The message of an agent, with only the fields of `mask`; without one, all.
pub fn agent_message(agent: &Agent, mask: Option<&types::AgentMask>) -> types::Agent {
    let mut message = types::Agent {
        id: Some(id_message(&agent.id)),
        attestation_type: agent.attestation_type.clone(),
        x509svid_serial_number: agent.serial.clone(),
        x509svid_expires_at: agent.expires_at,
        selectors: selector_messages(&agent.selectors),
        banned: agent.banned(),
        can_reattest: agent.can_reattest,
        agent_version: agent.version.clone(),
    };
    let Some(mask) = mask else { return message };
    macro_rules! keep {
        ($($field:ident),*) => {
            $(if !mask.$field { message.$field = Default::default(); })*
        };
    }
    keep!(
        attestation_type,
        x509svid_serial_number,
        x509svid_expires_at,
        selectors,
        banned,
        can_reattest,
        agent_version
    );
    message
}

/// The message of a federation relationship; `bundle` is what is known of the foreign trust domain.
pub fn relationship_message(
    name: &TrustDomain,
    relationship: &Relationship,
    bundle: Option<&Bundle>,
) -> types::FederationRelationship {
    use types::federation_relationship::BundleEndpointProfile;
    let profile = match &relationship.endpoint_spiffe_id {
        Some(id) => BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
            endpoint_spiffe_id: id.to_string(),
        }),
        None => BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
    };
    types::FederationRelationship {
        trust_domain: name.to_string(),
        bundle_endpoint_url: relationship.url.clone(),
        bundle_endpoint_profile: Some(profile),
        trust_domain_bundle: bundle.map(|bundle| bundle_message(name, bundle, None)),
    }
}
