//! TLS sessions and certificates in checks, as they are written.

use schemars_derive::JsonSchema;
use serde::Deserialize;

use super::{OneOr, RawControl, Spanned, Text, names};
use crate::{
    evidence::{EXTENDED_KEY_USAGES, KEY_USAGES},
    lab::model::{StartTls, TlsVersion},
};

/// A TLS session to try.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TlsTry")]
pub struct RawTlsTry {
    /// Whose pod it is tried from.
    pub from: Text,
    /// Who is called, with the port: `payments-api:8443`.
    pub to: Text,
    /// The certificate to show.
    pub client: Spanned<OneOr<RawClient>>,
    /// The server's name that is asked for. The host of `to` where nothing is said.
    pub name: Option<Text>,
    /// A protocol that begins in clear: `postgres`.
    #[schemars(extend("enum" = names(StartTls::ALL)))]
    pub starttls: Option<Text>,
}

/// Whom a TLS client trusts, and what it shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TlsUse")]
pub struct RawTlsUse {
    /// The authorities to verify the server by: `configmap/shop-ca/ca.crt`, `secret/NAME/KEY` or `file/PATH`. Without
    /// it nothing is verified.
    pub trust: Option<Text>,
    /// The certificate to show. None where nothing is said.
    pub client: Option<Spanned<OneOr<RawClient>>>,
    /// The server's name that is asked for and verified. The host where nothing is said.
    pub name: Option<Text>,
    /// Offer only this version: `1.2` or `1.3`.
    #[schemars(extend("enum" = names(TlsVersion::ALL)))]
    pub version: Option<Text>,
}

/// A certificate to show: one that is somewhere (`certificate`), or one that is made for the occasion (`signedBy`). In
/// their place the words `none`, `self-made` or `secret/NAME` can stand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Client")]
pub struct RawClient {
    /// Where the certificate is: `file/pki/orders-api.crt`, `secret/NAME/KEY` or `configmap/NAME/KEY`.
    pub certificate: Option<Text>,
    /// Where the authority's certificate is that signs one made for the occasion.
    #[serde(rename = "signedBy")]
    pub signed_by: Option<Text>,
    /// Where the private key is: the certificate's, or the authority's.
    pub key: Text,
    /// The common name of the one that is made. The workload that calls where nothing is said.
    pub name: Option<Text>,
    /// Whether the one that is made ended yesterday.
    #[serde(default)]
    pub expired: bool,
}

/// A TLS session, and what the server shows in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub struct RawTls {
    /// Whose pod calls: a workload, `pod/NAME`, or a label selector.
    pub from: Text,
    /// Who is called, with the port: `payments-api:8443`.
    pub to: Text,
    /// The server's name that is asked for and verified. The host of `to` where nothing is said.
    pub name: Option<Text>,
    /// The authorities to verify the server by: `configmap/shop-ca/ca.crt`, `secret/NAME/KEY` or `file/PATH`.
    pub trust: Option<Text>,
    /// The certificate to show. None where nothing is said.
    pub client: Option<Spanned<OneOr<RawClient>>>,
    /// Offer only this version: `1.2` or `1.3`.
    #[schemars(extend("enum" = names(TlsVersion::ALL)))]
    pub version: Option<Text>,
    /// Application protocols to offer, as `[http/1.1]`.
    #[serde(default)]
    pub alpn: Vec<Text>,
    /// A protocol that begins in clear: `postgres`.
    #[schemars(extend("enum" = names(StartTls::ALL)))]
    pub starttls: Option<Text>,
    /// What must come of it.
    pub expect: Spanned<RawTlsExpect>,
    /// Who gets an answer in the same moment, with `usable: false`.
    pub control: Option<Spanned<OneOr<RawControl>>>,
}

/// What must come of a TLS session. At least one field, and each that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TlsExpect")]
pub struct RawTlsExpect {
    /// Whether an answer comes back through the session. `false`: the server refuses, in the handshake or after it.
    pub usable: Option<bool>,
    /// The version agreed on: `1.2` or `1.3`.
    #[schemars(extend("enum" = names(TlsVersion::ALL)))]
    pub version: Option<Text>,
    /// A regular expression that must be found in the cipher suite's name.
    pub cipher: Option<Text>,
    /// The application protocol agreed on.
    pub alpn: Option<Text>,
    /// Whether the server's certificate verifies against `trust`.
    pub verified: Option<Spanned<bool>>,
    /// Whether the server asks for a client certificate.
    #[serde(rename = "asksForClient")]
    pub asks_for_client: Option<bool>,
    /// Rules for the server's own certificate.
    pub certificate: Option<Spanned<RawCertificateRules>>,
}

/// Rules for a certificate. Each field that is given must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CertificateRules")]
pub struct RawCertificateRules {
    /// Whether it is an authority's.
    pub ca: Option<bool>,
    /// How many authorities may follow below it.
    #[serde(rename = "pathLength")]
    pub path_length: Option<u32>,
    /// What its key is for, at least these: `digital-signature`, `key-cert-sign` and so on.
    #[serde(rename = "keyUsage", default)]
    #[schemars(extend("items" = { "type": "string", "enum": KEY_USAGES }))]
    pub key_usage: Vec<Text>,
    /// What it may be shown for, at least these: `server-auth`, `client-auth` and so on.
    #[serde(rename = "extendedKeyUsage", default)]
    #[schemars(extend("items" = { "type": "string", "enum": EXTENDED_KEY_USAGES }))]
    pub extended_key_usage: Vec<Text>,
    /// The alternative names it is for, at least these: DNS names, addresses, URIs.
    #[serde(default)]
    pub names: Vec<Text>,
    /// Its common name.
    pub subject: Option<Text>,
    /// The common name of who signed it.
    pub issuer: Option<Text>,
    /// Whether its time is over. It must be valid now where nothing is said.
    pub expired: Option<bool>,
    /// The longest lifetime it may have, in days.
    #[serde(rename = "atMostDays")]
    pub at_most_days: Option<Spanned<u32>>,
    /// How many days it must still be valid.
    #[serde(rename = "atLeastDays")]
    pub at_least_days: Option<Spanned<u32>>,
    /// Whether its own key signed it.
    #[serde(rename = "selfSigned")]
    pub self_signed: Option<bool>,
}

/// A certificate somewhere. Each field that is given must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CertificateCheck")]
pub struct RawCertificate {
    /// Where it is: `file/pki/ca.crt`, `secret/NAME/KEY` or `configmap/NAME/KEY`. The first one of the text counts.
    #[serde(rename = "in")]
    pub place: Text,
    /// Rules for what it says.
    #[serde(default)]
    pub is: RawCertificateRules,
    /// Where the certificate is whose key signed it.
    #[serde(rename = "signedBy")]
    pub signed_by: Option<Text>,
    /// Where its private key is.
    pub key: Option<Text>,
    /// No Secret and no ConfigMap of the lab's namespace holds its private key.
    #[serde(rename = "keyNotInCluster", default)]
    pub key_not_in_cluster: bool,
}
