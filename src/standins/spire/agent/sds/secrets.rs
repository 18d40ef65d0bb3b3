//! From what a workload may have to the secrets that Envoy asks for by name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::Any;
use tonic::Status;
use ztlab_identity::{Bundle, TrustDomain, X509Svid};

use super::Names;
use crate::{
    agent::cache::{Cached, Snapshot},
    api::{
        envoy_core::{DataSource, Node, TypedExtensionConfig, data_source::Specifier, node::UserAgentVersionType},
        envoy_tls::{
            CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret::Type,
            spiffe_cert_validator_config,
        },
    },
    pem,
    store::Selector,
};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
/// The extension of Envoy's that chooses the bundle by the trust domain in the peer's SPIFFE ID.
const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
/// A node's metadata that counts more than the agent's setting.
const DISABLE: &str = "disable_spiffe_cert_validation";

/// Most names of a message, and most characters of each: it has to fit into the header fields of an answer.
const MOST_NAMED: (usize, usize) = (16, 256);

/// What one workload may have at one moment.
#[derive(Clone, PartialEq)]
pub struct View {
    bundle: Option<Bundle>,
    foreign: BTreeMap<TrustDomain, Bundle>,
    /// The default first.
    identities: Vec<Identity>,
}

#[derive(Clone, PartialEq, Eq)]
struct Identity {
    id: String,
    /// Chain (concatenated DER) and key (PKCS#8); none while the server signs.
    svid: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// An SVID that was asked for is to come.
    Pending,
    /// There will be none.
    Refused(Status),
}

impl From<Status> for NoAnswer {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl View {
    /// What whoever shows `selectors` may have; an SVID that has ended at `now` is none.
    pub fn of(snapshot: &Snapshot, selectors: &BTreeSet<Selector>, now: i64) -> Self {
        let identities = snapshot.identities(selectors);
        let foreign = snapshot.foreign_of(&identities);
        Self {
            bundle: snapshot.bundle.clone(),
            foreign: foreign
                .into_iter()
                .map(|(name, bundle)| (name.clone(), bundle.clone()))
                .collect(),
            identities: identities.into_iter().map(|cached| Identity::of(cached, now)).collect(),
        }
    }

    /// The secrets that are named, or all where none is. What is asked for has to be there to the last name: Envoy would
    /// wait for ever for one that was left out.
    pub fn secrets(&self, asked: &[String], node: Option<&Node>, names: &Names) -> Result<Vec<Any>, NoAnswer> {
        let mut open: BTreeSet<&str> = asked
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let all = open.is_empty();
        let trust = Trust {
            by_domain: !disabled(node, names.disable_spiffe_cert_validation) && knows_validator(node),
            view: self,
        };
        let mut secrets = Vec::new();
        if let Some(own) = &self.bundle {
            let id = own.trust_domain().id().to_string();
            // Like SPIRE's, the agent answers to one of a bundle's names, so that Envoy asks for each on its own.
            if all || open.contains(id.as_str()) {
                open.remove(id.as_str());
                secrets.push(trust.one(&id, own));
            } else if open.remove(names.bundle.as_str()) {
                secrets.push(trust.one(&names.bundle, own));
            } else if open.remove(names.all_bundles.as_str()) {
                secrets.push(trust.all(&names.all_bundles)?);
            }
        }
        for bundle in self.foreign.values() {
            let id = bundle.trust_domain().id().to_string();
            if all || open.remove(id.as_str()) {
                secrets.push(trust.one(&id, bundle));
            }
        }
        let mut pending = false;
        let mut given = false;
        for (position, identity) in self.identities.iter().enumerate() {
            let name = if all || open.remove(identity.id.as_str()) {
                identity.id.as_str()
            } else if position == 0 && open.remove(names.svid.as_str()) {
                names.svid.as_str()
            } else {
                continue;
            };
            match &identity.svid {
                Some((chain, key)) => {
                    secrets.push(certificate(name, chain, key)?);
                    given = true;
                }
                None => pending = true,
            }
        }
        if !open.is_empty() {
            return Err(NoAnswer::Refused(Status::invalid_argument(format!(
                "workload is not authorized for the requested identities {}",
                named(open)
            ))));
        }
        if pending && !(all && given) {
            return Err(NoAnswer::Pending);
        }
        Ok(secrets)
    }
}

/// Names as Go prints them; of more than anybody needs to see the first ones.
pub fn named(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let (most, longest) = MOST_NAMED;
    let mut names = names.into_iter();
    let quoted = |name: String| format!("{name:?}");
    let shown = names.by_ref().take(most);
    let shown = shown.map(|name| quoted(name.as_ref().chars().take(longest).collect()));
    let shown = shown.collect::<Vec<_>>().join(" ");
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("[{shown}{more}]")
}

impl Identity {
    fn of(cached: &Cached, now: i64) -> Self {
        let svid = cached.svid.as_ref().filter(|svid| svid.expires_at > now);
        Self {
            id: cached.id_text(),
            svid: svid.map(|svid| (svid.chain.clone(), svid.key.clone())),
        }
    }
}

/// How the peers' certificates are to be verified.
struct Trust<'a> {
    view: &'a View,
    /// By the SPIFFE validator; else all authorities alike, as web servers do it.
    by_domain: bool,
}

impl Trust<'_> {
    fn one(&self, name: &str, bundle: &Bundle) -> Any {
        let context = if self.by_domain {
            by_domain([bundle])
        } else {
            CertificateValidationContext {
                trusted_ca: Some(inline(bundle.x509().to_pem())),
                custom_validator_config: None,
            }
        };
        secret(name, Type::ValidationContext(context))
    }

    /// All bundles, each for its own domain. They are never one heap of authorities: each domain could then issue the
    /// others' ids.
    fn all(&self, name: &str) -> Result<Any, Status> {
        if !self.by_domain {
            return Err(Status::internal(
                "unable to use \"SPIFFE validator\" on Envoy below 1.17",
            ));
        }
        let bundles: BTreeMap<&TrustDomain, &Bundle> = self
            .view
            .bundle
            .iter()
            .chain(self.view.foreign.values())
            .map(|bundle| (bundle.trust_domain(), bundle))
            .collect();
        Ok(secret(name, Type::ValidationContext(by_domain(bundles.into_values()))))
    }
}

fn by_domain<'a>(bundles: impl IntoIterator<Item = &'a Bundle>) -> CertificateValidationContext {
    let trust_domains = bundles
        .into_iter()
        .map(|bundle| spiffe_cert_validator_config::TrustDomain {
            name: bundle.trust_domain().to_string(),
            trust_bundle: Some(inline(bundle.x509().to_pem())),
        })
        .collect();
    let config = SpiffeCertValidatorConfig { trust_domains };
    CertificateValidationContext {
        trusted_ca: None,
        custom_validator_config: Some(TypedExtensionConfig {
            name: SPIFFE_VALIDATOR.into(),
            typed_config: Some(Any {
                type_url: VALIDATOR.into(),
                value: config.encode_to_vec(),
            }),
        }),
    }
}

fn certificate(name: &str, chain: &[u8], key: &[u8]) -> Result<Any, Status> {
    let svid = X509Svid::from_der(chain, key)
        .map_err(|error| Status::internal(format!("the server's SVID cannot be used: {error}")))?;
    Ok(secret(
        name,
        Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(svid.chain_pem())),
            private_key: Some(inline(pem::text("PRIVATE KEY", key))),
        }),
    ))
}

fn secret(name: &str, kind: Type) -> Any {
    let secret = Secret {
        name: name.into(),
        r#type: Some(kind),
    };
    Any {
        type_url: SECRET.into(),
        value: secret.encode_to_vec(),
    }
}

fn inline(text: String) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(text.into_bytes())),
    }
}

/// Whether Envoy is new enough for the SPIFFE validator; one that does not say is taken to be.
fn knows_validator(node: Option<&Node>) -> bool {
    let Some(UserAgentVersionType::UserAgentBuildVersion(build)) =
        node.and_then(|node| node.user_agent_version_type.as_ref())
    else {
        return true;
    };
    let version = build.version.unwrap_or_default();
    (version.major_number == 1 && version.minor_number > 17) || version.major_number > 1
}

/// Whether the node wants no SPIFFE validator; a value that is no boolean counts as none.
fn disabled(node: Option<&Node>, default: bool) -> bool {
    use prost_types::value::Kind;
    let value = node
        .and_then(|node| node.metadata.as_ref()?.fields.get(DISABLE)?.kind.as_ref())
        .and_then(|kind| match kind {
            Kind::BoolValue(value) => Some(*value),
            Kind::StringValue(text) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            },
            _ => None,
        });
    value.unwrap_or(default)
}
