//! What SPIRE's server says, read from what its commands print with `-output json`: protobuf's JSON of SPIRE's API types.
//!
//! Source: `spire-api-sdk`, `spire/api/types`; numbers of 64 bits are text in that JSON.

use std::{collections::BTreeSet, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::{
    evidence::CertificateFacts,
    identity::{SpiffeId, TrustDomain, X509Bundle, X509BundleSet, x509::Authority},
};

/// What a workload or a node shows of itself: `k8s:ns:shop`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Who found it: `k8s`, `unix`.
    pub kind: String,
    /// What was found: `ns:shop`.
    pub value: String,
}

impl Selector {
    /// The selector `kind:value`.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            value: value.into(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A registration entry: who shows all of `selectors` below `parent_id` is `spiffe_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its own id.
    pub id: String,
    /// The identity that it gives.
    pub spiffe_id: SpiffeId,
    /// The agent, or group of agents, that may issue it.
    pub parent_id: SpiffeId,
    /// All of these have to be shown.
    pub selectors: BTreeSet<Selector>,
    /// Lifetime of X.509-SVIDs in seconds; zero for the server's default.
    pub x509_svid_ttl: i64,
    /// Lifetime of JWT-SVIDs in seconds; zero for the server's default.
    pub jwt_svid_ttl: i64,
    /// Trust domains whose bundles come with it.
    pub federates_with: Vec<String>,
    /// Whether the holder may use the server's management APIs.
    pub admin: bool,
    /// Whether the holder may sign as an intermediate authority.
    pub downstream: bool,
    /// When it ends, in seconds since the Unix epoch; zero for never.
    pub expires_at: i64,
    /// DNS names in X.509-SVIDs.
    pub dns_names: Vec<String>,
    /// Which of several identities this is.
    pub hint: String,
}

/// An agent that the server has attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Its identity.
    pub id: SpiffeId,
    /// How it proved its node: `k8s_psat`.
    pub attestation_type: String,
    /// When its own SVID ends, in seconds since the Unix epoch.
    pub expires_at: i64,
    /// What its node shows.
    pub selectors: BTreeSet<Selector>,
    /// Whether it is banned.
    pub banned: bool,
}

/// An X.509 authority of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuthorityView {
    /// Its distinguished name.
    pub subject: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its subject key identifier, hexadecimal: SPIRE's authority id.
    pub key_id: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
    /// Whether it is about to be revoked.
    pub tainted: bool,
    /// `active`, `prepared` or `old`, as the server says of its own; `None` for others.
    pub state: Option<&'static str>,
    #[serde(skip)]
    der: Vec<u8>,
}

/// A key of a bundle that JWT-SVIDs are verified with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JwtKeyView {
    /// Its name (`kid`).
    pub key_id: String,
    /// When it ends, in seconds since the Unix epoch; zero where the server does not say.
    pub expires_at: i64,
    /// Whether it is about to be revoked.
    pub tainted: bool,
    /// As [`AuthorityView::state`].
    pub state: Option<&'static str>,
}

/// What SVIDs of a trust domain are verified with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleView {
    /// Whose.
    pub trust_domain: TrustDomain,
    /// Whether it is the server's own; others are federated with.
    pub own: bool,
    /// How often it changed.
    pub sequence: i64,
    /// How often to look for news, in seconds; zero where it does not say.
    pub refresh_hint: i64,
    /// Who signs X.509-SVIDs.
    pub x509: Vec<AuthorityView>,
    /// What signs JWT-SVIDs.
    pub jwt: Vec<JwtKeyView>,
}

/// The bundles as SVIDs are verified with them. An authority that may not sign is left out: nothing is believed for it.
pub fn bundle_set(bundles: &[BundleView]) -> X509BundleSet {
    let mut set = X509BundleSet::default();
    for bundle in bundles {
        let authorities = bundle.x509.iter();
        let authorities = authorities.filter_map(|one| Authority::read(CertificateDer::from(one.der.clone())).ok());
        set.insert(X509Bundle::new(bundle.trust_domain.clone(), authorities));
    }
    set
}

/// Which authorities are in use: `spire-server localauthority x509 show`, `… jwt show`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct States {
    active: Option<StateRead>,
    prepared: Option<StateRead>,
    old: Option<StateRead>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct StateRead {
    authority_id: String,
}

impl States {
    fn of(&self, key_id: &str) -> Option<&'static str> {
        let all = [
            ("active", &self.active),
            ("prepared", &self.prepared),
            ("old", &self.old),
        ];
        let found = all
            .into_iter()
            .find(|(_, state)| state.as_ref().is_some_and(|state| state.authority_id == key_id));
        found.map(|(word, _)| word)
    }
}

impl BundleView {
    /// The same with what the server says of its own authorities.
    #[must_use]
    pub(super) fn with_states(mut self, x509: &States, jwt: &States) -> Self {
        for authority in &mut self.x509 {
            authority.state = x509.of(&authority.key_id);
        }
        for key in &mut self.jwt {
            key.state = jwt.of(&key.key_id);
        }
        self
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IdRead {
    trust_domain: String,
    path: String,
}

impl IdRead {
    fn id(&self) -> Result<SpiffeId, String> {
        let text = format!("spiffe://{}{}", self.trust_domain, self.path);
        SpiffeId::parse(&text).map_err(|error| format!("`{text}`: {error}"))
    }
}

#[derive(Deserialize)]
struct SelectorRead {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

fn selectors(read: Vec<SelectorRead>) -> BTreeSet<Selector> {
    read.into_iter().map(|one| Selector::new(one.kind, one.value)).collect()
}

/// A number of 64 bits: as text, or as what it is.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(i64),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text
            .parse()
            .map_err(|_| de::Error::custom(format!("`{text}` is no number"))),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EntryRead {
    id: String,
    spiffe_id: IdRead,
    parent_id: IdRead,
    selectors: Vec<SelectorRead>,
    x509_svid_ttl: i64,
    jwt_svid_ttl: i64,
    federates_with: Vec<String>,
    admin: bool,
    downstream: bool,
    #[serde(deserialize_with = "number")]
    expires_at: i64,
    dns_names: Vec<String>,
    hint: String,
}

/// Reads `entry show -output json`.
pub(super) fn entries(json: &str) -> Result<Vec<Entry>, String> {
    #[derive(Deserialize)]
    struct Read {
        entries: Vec<EntryRead>,
    }
    let read: Read = serde_json::from_str(json).map_err(|error| error.to_string())?;
    read.entries
        .into_iter()
        .map(|one| {
            Ok(Entry {
                spiffe_id: one.spiffe_id.id()?,
                parent_id: one.parent_id.id()?,
                id: one.id,
                selectors: selectors(one.selectors),
                x509_svid_ttl: one.x509_svid_ttl,
                jwt_svid_ttl: one.jwt_svid_ttl,
                federates_with: one.federates_with,
                admin: one.admin,
                downstream: one.downstream,
                expires_at: one.expires_at,
                dns_names: one.dns_names,
                hint: one.hint,
            })
        })
        .collect()
}

/// Reads `agent list -output json`.
pub(super) fn agents(json: &str) -> Result<Vec<Agent>, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct AgentRead {
        id: IdRead,
        attestation_type: String,
        #[serde(deserialize_with = "number")]
        x509svid_expires_at: i64,
        selectors: Vec<SelectorRead>,
        banned: bool,
    }
    #[derive(Deserialize)]
    struct Read {
        agents: Vec<AgentRead>,
    }
    let read: Read = serde_json::from_str(json).map_err(|error| error.to_string())?;
    read.agents
        .into_iter()
        .map(|one| {
            Ok(Agent {
                id: one.id.id()?,
                attestation_type: one.attestation_type,
                expires_at: one.x509svid_expires_at,
                selectors: selectors(one.selectors),
                banned: one.banned,
            })
        })
        .collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct BundleRead {
    trust_domain: String,
    x509_authorities: Vec<AuthorityRead>,
    jwt_authorities: Vec<KeyRead>,
    #[serde(deserialize_with = "number")]
    refresh_hint: i64,
    #[serde(deserialize_with = "number")]
    sequence_number: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthorityRead {
    asn1: String,
    tainted: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeyRead {
    key_id: String,
    #[serde(deserialize_with = "number")]
    expires_at: i64,
    tainted: bool,
}

impl BundleRead {
    fn view(self, own: bool) -> Result<BundleView, String> {
        let name = self
            .trust_domain
            .strip_prefix("spiffe://")
            .unwrap_or(&self.trust_domain);
        Ok(BundleView {
            trust_domain: TrustDomain::new(name).map_err(|error| format!("`{name}`: {error}"))?,
            own,
            sequence: self.sequence_number,
            refresh_hint: self.refresh_hint,
            x509: self
                .x509_authorities
                .into_iter()
                .map(authority)
                .collect::<Result<_, _>>()?,
            jwt: self.jwt_authorities.into_iter().map(key).collect(),
        })
    }
}

fn key(read: KeyRead) -> JwtKeyView {
    JwtKeyView {
        key_id: read.key_id,
        expires_at: read.expires_at,
        tainted: read.tainted,
        state: None,
    }
}

fn authority(read: AuthorityRead) -> Result<AuthorityView, String> {
    let der = BASE64_STANDARD
        .decode(&read.asn1)
        .map_err(|_| "an authority that is not base64".to_owned())?;
    let facts = CertificateFacts::read(&der)?;
    Ok(AuthorityView {
        subject: facts.subject,
        serial: facts.serial,
        key_id: subject_key_id(&der),
        not_before: facts.not_before,
        not_after: facts.not_after,
        tainted: read.tainted,
        state: None,
        der,
    })
}

/// The subject key identifier (RFC 5280 section 4.2.1.2) in hexadecimal; empty without one.
fn subject_key_id(der: &[u8]) -> String {
    let Ok((_, read)) = X509Certificate::from_der(der) else {
        return String::new();
    };
    let id = read.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    id.into_iter().flatten().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `bundle show -output json`: the server's own bundle.
pub(super) fn own_bundle(json: &str) -> Result<BundleView, String> {
    let read: BundleRead = serde_json::from_str(json).map_err(|error| error.to_string())?;
    read.view(true)
}

/// Reads `bundle list -output json`: bundles of those that the server federates with.
pub(super) fn foreign_bundles(json: &str) -> Result<Vec<BundleView>, String> {
    #[derive(Deserialize)]
    struct Read {
        bundles: Vec<BundleRead>,
    }
    let read: Read = serde_json::from_str(json).map_err(|error| error.to_string())?;
    read.bundles.into_iter().map(|one| one.view(false)).collect()
}

/// Reads `localauthority … show -output json`.
pub(super) fn states(json: &str) -> Result<States, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spire::testing;

    /// As SPIRE 1.15.3 prints it.
    const ENTRIES: &str = r#"{"entries":[{"id":"e1","spiffe_id":{"trust_domain":"shop.test","path":"/orders"},"parent_id":{"trust_domain":"shop.test","path":"/spire/agent/k8s_psat/demo/n1"},"selectors":[{"type":"k8s","value":"ns:shop"},{"type":"k8s","value":"sa:orders"}],"x509_svid_ttl":60,"federates_with":[],"admin":false,"downstream":false,"expires_at":"1800000000","dns_names":[],"revision_number":"0","store_svid":false,"jwt_svid_ttl":0,"hint":"","created_at":"1795000000"}],"next_page_token":""}"#;

    #[test]
    fn entries_are_read_as_spire_prints_them() {
        let entries = entries(ENTRIES).unwrap();
        assert_eq!(entries[0].spiffe_id.to_string(), "spiffe://shop.test/orders");
        assert_eq!((entries[0].x509_svid_ttl, entries[0].expires_at), (60, 1_800_000_000));
        let shown: Vec<String> = entries[0].selectors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["k8s:ns:shop", "k8s:sa:orders"]);
        for broken in ["", "{}", r#"{"entries":[{"id":"x"}]}"#, "Found 1 entry"] {
            assert!(super::entries(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn agents_and_bundles_are_read_as_spire_prints_them() {
        let agents = agents(r#"{"agents":[{"id":{"trust_domain":"shop.test","path":"/spire/agent/k8s_psat/demo/n1"},"attestation_type":"k8s_psat","x509svid_serial_number":"1","x509svid_expires_at":"1795003600","selectors":[{"type":"k8s_psat","value":"cluster:demo"}],"banned":false,"can_reattest":true,"agent_version":"1.15.3"}],"next_page_token":""}"#).unwrap();
        assert_eq!(agents[0].expires_at, 1_795_003_600);
        let (authority, json) = testing::bundle_json("shop.test");
        let bundle = own_bundle(&json).unwrap();
        assert_eq!((bundle.own, bundle.refresh_hint, bundle.sequence), (true, 300, 4));
        assert_eq!(bundle.x509[0].subject, "CN=shop.test");
        let states = states(&format!(
            r#"{{"active":{{"authority_id":"{}","expires_at":"1"}},"prepared":null,"old":null}}"#,
            bundle.x509[0].key_id
        ))
        .unwrap();
        let bundle = bundle.with_states(&states, &States::default());
        assert_eq!(bundle.x509[0].state, Some("active"));
        assert_eq!((bundle.jwt[0].key_id.as_str(), bundle.jwt[0].state), ("k1", None));
        let set = bundle_set(&[bundle]);
        let svid = authority.svid("spiffe://shop.test/a", 0, 100);
        let chain = [CertificateDer::from(svid)];
        let now = crate::identity::UnixTime::since_unix_epoch(std::time::Duration::from_secs(50));
        assert!(crate::identity::x509::verify(&chain, &set, now).is_ok());
        assert!(own_bundle(r#"{"trust_domain":"shop.test","x509_authorities":[{"asn1":"AAAA"}]}"#).is_err());
        assert!(
            foreign_bundles(r#"{"bundles":[],"next_page_token":""}"#)
                .unwrap()
                .is_empty()
        );
    }
}
