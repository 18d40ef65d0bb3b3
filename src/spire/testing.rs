//! Objects, entries and certificates for tests.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use super::{
    find,
    gather::{Answers, Scope, World},
    model::{self, Agent, Entry, Selector},
};
use crate::identity::SpiffeId;

/// The time of every test, in seconds since the Unix epoch.
pub(crate) const NOW: i64 = 1_795_000_000;

pub(crate) struct TestAuthority(Issuer<'static, KeyPair>);

fn times(params: &mut CertificateParams, from: u64, until: u64) {
    let start = date_time_ymd(1970, 1, 1);
    params.not_before = start + Duration::from_secs(from);
    params.not_after = start + Duration::from_secs(until);
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl TestAuthority {
    /// An SVID's certificate in DER, valid between two seconds.
    pub(crate) fn svid(&self, id: &str, from: u64, until: u64) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CountryName, "US");
        params.serial_number = Some(SerialNumber::from(0x1f2e_3d4c_u64));
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        times(&mut params, from, until);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.0).unwrap().der().to_vec()
    }
}

/// An authority, and the bundle that holds it as `bundle show -output json` prints it.
pub(crate) fn bundle_json(trust_domain: &str) -> (TestAuthority, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, trust_domain);
    params.serial_number = Some(SerialNumber::from(7_u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
    times(&mut params, 0, 1_800_000_000);
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let json = json!({
        "trust_domain": trust_domain,
        "x509_authorities": [{"asn1": BASE64_STANDARD.encode(der), "tainted": false}],
        "jwt_authorities": [{"public_key": "", "key_id": "k1", "expires_at": "1795086400", "tainted": false}],
        "refresh_hint": "300", "sequence_number": "4",
    });
    (TestAuthority(Issuer::new(params, key)), json.to_string())
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://shop.test{text}")).unwrap()
}

pub(crate) const AGENT: &str = "/spire/agent/k8s_psat/demo/node-uid";

/// An entry of these selectors below the agent of `node-1`.
pub(crate) fn entry(name: &str, selectors: &[&str]) -> Entry {
    let selectors = selectors.iter().map(|text| {
        let (kind, value) = text.split_once(':').unwrap();
        Selector::new(kind, value)
    });
    Entry {
        id: name.to_owned(),
        spiffe_id: id(&format!("/{name}")),
        parent_id: id(AGENT),
        selectors: selectors.collect(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        expires_at: 0,
        dns_names: Vec::new(),
        hint: String::new(),
    }
}

/// A running pod of the shop on `node-1`, with the Workload API.
pub(crate) fn pod_json(name: &str, app: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("{name}-uid"), "labels": {"app": app}},
        "spec": {
            "serviceAccountName": app, "nodeName": "node-1",
            "containers": [{"name": "main", "image": "shop/orders:1",
                "volumeMounts": [{"name": "api", "mountPath": "/spiffe-workload-api", "readOnly": true}]}],
            "volumes": [{"name": "api", "csi": {"driver": "csi.spiffe.io", "readOnly": true}}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
            {"name": "main", "image": "shop/orders:1", "imageID": "", "containerID": "r://1", "ready": true, "restartCount": 0}]},
    })
}

fn part_json(name: &str, image: &str, more: Value) -> Value {
    let mut spec = json!({"nodeName": "node-1", "containers": [{"name": image, "image": format!("ghcr.io/spiffe/{image}:1.15.3")}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "metadata": {"name": name, "namespace": "spire", "uid": format!("{name}-uid")},
        "spec": spec,
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A healthy SPIRE on one node, one pod `orders-1` of the shop, no entries.
pub(crate) fn world() -> World {
    let server = part_json("spire-server-0", "spire-server", json!({}));
    let sockets = json!({"volumes": [{"name": "s", "hostPath": {"path": "/run/spire/agent-sockets"}}]});
    let agent = part_json("spire-agent-x", "spire-agent", sockets);
    let pods = vec![read(server), read(agent), read(pod_json("orders-1", "orders"))];
    let agent = Agent {
        id: id(AGENT),
        attestation_type: "k8s_psat".into(),
        expires_at: NOW + 3600,
        selectors: [Selector::new("k8s_psat", "cluster:demo")].into(),
        banned: false,
    };
    let (_, bundle) = bundle_json("shop.test");
    World {
        now_s: NOW,
        found: find::find(&pods),
        scope: Scope::Cluster,
        pods,
        namespaces: vec![read(
            json!({"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}}),
        )],
        nodes: vec![
            read(json!({"metadata": {"name": "node-1", "uid": "node-uid"}})),
            read(json!({"metadata": {"name": "node-2", "uid": "other-uid"}})),
        ],
        nodes_unknown: None,
        rules: Ok(Vec::new()),
        manager: None,
        answers: Answers {
            health: Ok("Server is healthy.".into()),
            entries: Ok(Vec::new()),
            agents: Ok(vec![agent]),
            bundles: Ok(vec![model::own_bundle(&bundle).unwrap()]),
        },
    }
}
