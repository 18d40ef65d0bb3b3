//! Certificates for a topology whose services take them from Secrets: made on the spot, since no private key is in Git.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kube::core::DynamicObject;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::cluster::ClusterError;

/// How long they are valid: a month, as long-lived certificates made by hand tend to be at least.
const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far the clocks of machines may differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// The name of the authority, and of the ConfigMap with its certificate.
const AUTHORITY: &str = "shop-ca";

/// What a Secret's name ends with, after the service's.
const SUFFIX: &str = "-tls";

/// The Secrets and the ConfigMap that the Deployments among `objects` wait for: a new authority, and a certificate of it
/// for each service. Its key is not kept: to renew one certificate is to renew all.
///
/// # Errors
/// When a certificate cannot be made, such as for a service whose name is no DNS name.
pub fn for_services(objects: &[DynamicObject]) -> Result<Vec<Value>, ClusterError> {
    let wanted = wanted(objects);
    let Some((namespace, _)) = wanted.first() else {
        return Ok(Vec::new());
    };
    let authority = authority().map_err(|error| broken(AUTHORITY, &error))?;
    let mut made = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": AUTHORITY, "namespace": namespace},
        "data": {"ca.crt": authority.pem()},
    })];
    for (namespace, service) in &wanted {
        let (certificate, key) = leaf(&authority, service, namespace).map_err(|error| broken(service, &error))?;
        made.push(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": format!("{service}{SUFFIX}"), "namespace": namespace},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        }));
    }
    Ok(made)
}

fn broken(name: &str, error: &rcgen::Error) -> ClusterError {
    ClusterError::Manifest {
        file: format!("certificate of {name}"),
        reason: error.to_string(),
    }
}

/// Namespace and name of every service that mounts a Secret `<name>-tls`.
fn wanted(objects: &[DynamicObject]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for object in objects {
        let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
        let volumes = object
            .data
            .pointer("/spec/template/spec/volumes")
            .and_then(Value::as_array);
        for source in volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.pointer("/projected/sources"))
        {
            for secret in source.as_array().into_iter().flatten() {
                let name = secret.pointer("/secret/name").and_then(Value::as_str);
                if let Some(service) = name.and_then(|name| name.strip_suffix(SUFFIX)) {
                    found.insert((namespace.to_owned(), service.to_owned()));
                }
            }
        }
    }
    found
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params(AUTHORITY, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(
    authority: &CertifiedIssuer<'static, KeyPair>,
    service: &str,
    namespace: &str,
) -> Result<(String, String), rcgen::Error> {
    let names = vec![
        service.to_owned(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
    ];
    let mut params = params(service, names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Before 1970 no certificate is valid anyway.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCKS);
    params.not_after = epoch + now + VALID;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::cluster::manifests;

    fn parsed(pem: &str) -> Vec<u8> {
        use rustls_pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    #[test]
    fn every_service_of_the_topology_gets_what_it_waits_for() {
        let objects = manifests::built_in("mtls").unwrap().unwrap();
        let made = for_services(&objects).unwrap();
        let names: Vec<&str> = made
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "shop-ca",
                "frontend-tls",
                "ledger-tls",
                "orders-api-tls",
                "payments-api-tls"
            ]
        );
        assert!(made.iter().all(|object| object["metadata"]["namespace"] == "shop"));
        let authority = parsed(made[0]["data"]["ca.crt"].as_str().unwrap());
        let (_, authority) = X509Certificate::from_der(&authority).unwrap();
        assert!(authority.is_ca());
        for secret in &made[1..] {
            let leaf = parsed(secret["stringData"]["tls.crt"].as_str().unwrap());
            let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
            leaf.verify_signature(Some(authority.public_key())).unwrap();
            assert!(!leaf.is_ca() && leaf.validity().is_valid());
            let usage = leaf.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.server_auth && usage.client_auth);
            let service = secret["metadata"]["name"].as_str().unwrap().trim_end_matches("-tls");
            let names = leaf.subject_alternative_name().unwrap().unwrap().value;
            assert!(format!("{names:?}").contains(&format!("{service}.shop.svc")));
        }
        // Made anew each time, and with no key of the authority among them.
        let again = for_services(&objects).unwrap();
        assert_ne!(made[0]["data"]["ca.crt"], again[0]["data"]["ca.crt"]);
        assert!(made[0]["data"].get("ca.key").is_none());
    }

    #[test]
    fn a_topology_without_tls_needs_none() {
        for layer in ["flat", "microsegmented", "spiffe"] {
            let objects = manifests::built_in(layer).unwrap().unwrap();
            assert!(for_services(&objects).unwrap().is_empty(), "{layer}");
        }
    }
}
