//! What the server remembers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use ztlab_identity::{SpiffeId, TrustDomain};

/// What a workload or node shows of itself: `type:value`, as `k8s:ns:default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// Before the first colon: which attestor found it.
    pub kind: String,
    /// All that follows.
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

    /// Reads `type:value`; the value may hold colons.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        (!kind.is_empty() && !value.is_empty()).then(|| Self::new(kind, value))
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// A registration entry: who shows all of `selectors` under `parent_id` is `spiffe_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its own id.
    pub id: String,
    /// The identity it gives.
    pub spiffe_id: SpiffeId,
    /// The agent, or group of agents, that may issue it.
    pub parent_id: SpiffeId,
    /// All of these have to be shown.
    pub selectors: BTreeSet<Selector>,
    /// Lifetime of an X.509-SVID in seconds; zero for the server's default.
    pub x509_svid_ttl: u32,
    /// Lifetime of a JWT-SVID in seconds; zero for the server's default.
    pub jwt_svid_ttl: u32,
    /// Foreign trust domains whose bundles the workload gets too.
    pub federates_with: BTreeSet<TrustDomain>,
    /// Whether its holder may use the server's management APIs.
    pub admin: bool,
    /// Whether its holder may sign as an intermediate CA.
    pub downstream: bool,
    /// When the entry is removed, in seconds of the Unix epoch; zero for never.
    pub expires_at: i64,
    /// DNS names in its X.509-SVIDs.
    pub dns_names: Vec<String>,
    /// Counts its changes from zero.
    pub revision: i64,
    /// Kept for clients that set it; nothing is stored anywhere for it.
    pub store_svid: bool,
    /// Tells a workload with several identities which to use for what.
    pub hint: String,
    /// Seconds of the Unix epoch.
    pub created_at: i64,
    /// Whether agents should wait with the X.509-SVID until it is asked for.
    pub disable_x509_svid_prefetch: bool,
    /// Whether each JWT-SVID carries a `jti` of its own.
    pub jwt_svid_include_jti: bool,
}

/// An agent that attested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// The node attestor that vouched for it.
    pub attestation_type: String,
    /// Serial number of its SVID, decimal; empty when it is banned.
    pub serial: String,
    /// Serial number of the SVID that it asked to renew to and has not used yet.
    pub new_serial: String,
    /// When its SVID ends, in seconds of the Unix epoch.
    pub expires_at: i64,
    /// What its node attestor found.
    pub selectors: BTreeSet<Selector>,
    /// Whether it may attest again.
    pub can_reattest: bool,
    /// What it calls its version.
    pub version: String,
}

impl Agent {
    /// Whether it was banned: no SVID of it counts, and it may not attest.
    pub fn banned(&self) -> bool {
        self.serial.is_empty()
    }
}

/// An authority of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct X509Authority {
    /// The certificate, DER.
    #[serde(with = "base64_bytes")]
    pub der: Vec<u8>,
    /// When it ends, in seconds of the Unix epoch.
    pub expires_at: i64,
    /// Whether it is under suspicion: SVIDs it signed are replaced at once.
    pub tainted: bool,
}

/// A key that signs JWT-SVIDs, its public half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtAuthority {
    /// Key id.
    pub key_id: String,
    /// SubjectPublicKeyInfo, DER.
    #[serde(with = "base64_bytes")]
    pub public_key: Vec<u8>,
    /// When it ends, in seconds of the Unix epoch; zero for unknown.
    pub expires_at: i64,
    /// Whether it is under suspicion.
    pub tainted: bool,
}

/// The bundle of one trust domain, ours or a foreign one's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bundle {
    /// Who may sign X.509-SVIDs.
    pub x509: Vec<X509Authority>,
    /// Who may sign JWT-SVIDs.
    pub jwt: Vec<JwtAuthority>,
    /// How soon to look for news, in seconds; zero for unsaid.
    pub refresh_hint: i64,
    /// Grows with each change.
    pub sequence: u64,
}

/// Where a foreign trust domain publishes its bundle, and how it proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relationship {
    /// URL of the bundle endpoint.
    pub url: String,
    /// The SPIFFE ID of the endpoint, or none for the `https_web` profile.
    pub endpoint_spiffe_id: Option<SpiffeId>,
}

/// A secret that lets one agent attest once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// When it ends, in seconds of the Unix epoch.
    pub expires_at: i64,
}

/// Where an authority of this server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Published, not signing yet.
    Prepared,
    /// Signing.
    Active,
    /// Signed before; what it signed may still live.
    Old,
}

/// An authority of this server, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The subject key id in hexadecimal, or the JWT's key id.
    pub id: String,
    /// Where it stands.
    pub standing: Standing,
    /// When it was made, in seconds of the Unix epoch.
    pub issued_at: i64,
    /// When it ends, in seconds of the Unix epoch.
    pub not_after: i64,
    /// Its certificate (DER), empty for a JWT key.
    #[serde(with = "base64_bytes")]
    pub certificate: Vec<u8>,
}

/// All that the server remembers, keys excepted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Grows with each change of what agents are told.
    pub revision: u64,
    /// By entry id.
    pub entries: BTreeMap<String, Entry>,
    /// By SPIFFE ID.
    pub agents: BTreeMap<SpiffeId, Agent>,
    /// By token.
    pub join_tokens: BTreeMap<String, JoinToken>,
    /// The trust domain's own bundle.
    pub bundle: Bundle,
    /// Foreign bundles.
    pub foreign: BTreeMap<TrustDomain, Bundle>,
    /// Federation relationships.
    pub relationships: BTreeMap<TrustDomain, Relationship>,
    /// The X.509 authorities of this server.
    pub x509_slots: Vec<Slot>,
    /// The JWT authorities of this server.
    pub jwt_slots: Vec<Slot>,
}

/// Bytes as base64 in JSON.
pub(super) mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}
