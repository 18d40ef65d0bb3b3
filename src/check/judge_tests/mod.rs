//! Every finding of the checks of HTTP, DNS, TLS, objects, certificates, files and programs: one line a case.

mod calls;
mod certificates;
mod measured;
mod objects;
mod programs;
mod sessions;

use std::sync::LazyLock;

use super::*;
use crate::{
    evidence::{CertificateFacts, Phase, ProbeId, ProbeOutcome, ProbeResult, chain_of, key_of, public_of},
    lab::{self, Check, Lab},
    probe::{
        TlsIdentity,
        pki::{self, Recipe, Role},
    },
    verdict::{Finding, Verdict},
};

const LAB: &str = r#"apiVersion: ztlab.dev/v1
kind: Lab
metadata: { name: small, title: T, level: 0, minutes: 5, difficulty: beginner }
spec:
  objectives: [see]
  namespace: shop
  topology: [flat]
  steps:
    - id: one
      title: One
      points: 100
      instructions: Do.
      checks:
        - { name: answered, why: w, http: { from: m, to: "http://b/x", expect: { status: [200, 201], body: { contains: ok, lacks: bad }, headers: { X-Why: { matches: ^no } } } } }
        - { name: cut, why: w, http: { from: m, to: "http://b/x", expect: { outcome: blocked }, control: a } }
        - { name: tls-cut, why: w, http: { from: m, to: "https://b/x", expect: { outcome: tls-refused }, control: { client: secret/a-tls } } }
        - { name: caller, why: w, http: { from: m, to: "http://b/x", expect: { status: 200, caller: { contains: "CN=a" } }, seen: by-student } }
        - { name: shut-out, why: w, http: { from: m, to: "https://b/x", expect: { outcome: tls-refused, reason: { matches: "(?i)unknown ?issuer" } }, control: a, seen: by-student } }
        - { name: shut-out-later, why: w, http: { from: m, to: "https://b/x", expect: { outcome: tls-refused, reason: { contains: expired } }, control: m, seen: by-student } }
        - { name: turned-away, why: w, database: { from: m, to: b, expect: refused } }
        - { name: resolves, why: w, dns: { from: m, name: b, expect: resolves, to: b } }
        - { name: no-answer, why: w, dns: { from: m, name: b, expect: no-answer, control: a } }
        - { name: no-name, why: w, dns: { from: m, name: nobody, expect: no-such-name } }
        - name: object
          why: w
          object:
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            changed: true
            fields:
              - { path: $.spec.podSelector, equals: {} }
              - { path: "$.spec.policyTypes[*]", contains: Ingress }
              - { path: $.spec.ingress, exists: false }
              - { path: $.metadata.name, matches: ^default }
              - { path: "$.spec.egress[*]", count: { max: 1 } }
        - { name: none, why: w, object: { apiVersion: v1, kind: Secret, name: ca-key, absent: true } }
        - name: session
          why: w
          tls:
            from: m
            to: b:8443
            trust: configmap/ca/ca.crt
            client: secret/m-tls
            expect: { usable: true, version: "1.3", cipher: AES_256, alpn: http/1.1, verified: true, asksForClient: true, certificate: { names: [b] } }
        - { name: shut, why: w, tls: { from: m, to: "b:8443", expect: { usable: false }, control: { client: secret/a-tls } } }
        - name: certificate
          why: w
          certificate:
            in: file/pki/b.crt
            is: { ca: false, names: [b, 10.0.0.7, "spiffe://shop/b"], subject: b, issuer: shop CA, keyUsage: [digital-signature], extendedKeyUsage: [server-auth], atMostDays: 90, atLeastDays: 1 }
            signedBy: file/pki/ca.crt
            key: file/pki/b.key
            keyNotInCluster: true
        - { name: authority, why: w, certificate: { in: file/pki/ca.crt, is: { ca: true, selfSigned: true, pathLength: 0, keyUsage: [key-cert-sign] } } }
        - { name: ended, why: w, certificate: { in: file/pki/b.crt, is: { expired: true } } }
        - { name: file, why: w, file: { path: gaps.md, text: { matches: "(?i)identity", lacks: TODO } } }
        - { name: fields, why: w, file: { path: p.yaml, fields: [ { path: $.level, equals: 1 } ] } }
        - { name: gone, why: w, file: { path: ca.key, absent: true } }
        - { name: program, why: w, exec: { in: m, run: [env], expect: { exit: 0, output: { contains: API_KEY } } } }
        - { name: fails, why: w, exec: { in: m, run: [env], expect: { exit: nonzero } } }
"#;

/// Read once: a property asks for it hundreds of times.
static READ: LazyLock<Lab> = LazyLock::new(|| {
    let layer = lab::Layer {
        workloads: ["a", "b", "m"].map(str::to_owned).into(),
        ..lab::Layer::default()
    };
    lab::parse("lab.yaml", LAB, lab::Surroundings::of(&layer)).unwrap_or_else(|error| panic!("{error:?}"))
});

fn check(name: &str) -> Check {
    READ.steps[0].check(name).unwrap().1.clone()
}

fn says(name: &str, evidence: &Evidence) -> (Verdict, Finding) {
    let judgement = judge(&check(name), evidence);
    assert!(!judgement.expected.is_empty() && !judgement.found.is_empty());
    (judgement.verdict, judgement.finding)
}

const PASSED: (Verdict, Finding) = (Verdict::Passed, Finding::Expected);

fn failed(finding: Finding) -> (Verdict, Finding) {
    (Verdict::Failed, finding)
}

fn unclear(finding: Finding) -> (Verdict, Finding) {
    (Verdict::Undetermined, finding)
}

fn result(outcome: ProbeOutcome) -> ProbeResult {
    ProbeResult {
        id: ProbeId("1".to_owned()),
        namespace: "shop".to_owned(),
        pod: "m-123".to_owned(),
        target: "GET http://b/x".to_owned(),
        outcome,
        resolved: Vec::new(),
        peer: None,
        local: None,
        tls: None,
        started_ns: 1_800_000_000_000_000_000,
        took_us: 0,
    }
}

fn probed(probe: ProbeResult, control: Option<ProbeOutcome>) -> Evidence {
    Evidence::Probes(Box::new(Probes {
        probe,
        control: control.map(result),
        expected: vec!["10.96.0.7".parse().unwrap()],
    }))
}

fn answered(status: u16, header: &str, body: &str) -> ProbeOutcome {
    ProbeOutcome::Answered {
        status,
        headers: vec![("x-why".to_owned(), header.to_owned())],
        body: body.to_owned(),
        truncated: false,
    }
}

const SILENT: ProbeOutcome = ProbeOutcome::TimedOut { phase: Phase::Connect };
const LATE: ProbeOutcome = ProbeOutcome::TimedOut { phase: Phase::Receive };
const NO_DNS: ProbeOutcome = ProbeOutcome::TimedOut { phase: Phase::Resolve };

fn alert() -> ProbeOutcome {
    ProbeOutcome::TlsRefused {
        alert: Some("certificate_required".to_owned()),
        phase: Phase::Receive,
    }
}

fn ca() -> TlsIdentity {
    let recipe = Recipe {
        names: Vec::new(),
        role: Role::Authority {
            flag: true,
            path_length: Some(0),
        },
        ..Recipe::leaf("shop CA")
    };
    pki::self_signed(&recipe).unwrap()
}

fn found(identity: &TlsIdentity) -> CertificateFound {
    let der = chain_of(identity.chain.as_bytes()).unwrap()[0].to_vec();
    CertificateFound {
        facts: CertificateFacts::read(&der).unwrap(),
        der,
    }
}

fn public(identity: &TlsIdentity) -> String {
    public_of(&key_of(identity.key.as_bytes()).unwrap()).unwrap()
}

fn leaf() -> Recipe {
    Recipe {
        names: vec!["B".to_owned(), "10.0.0.7".to_owned(), "spiffe://shop/b".to_owned()],
        ..Recipe::leaf("b")
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[test]
fn every_expectation_is_a_sentence_of_its_own() {
    let lab = &READ;
    let mut all: Vec<String> = lab.steps[0].checks.iter().map(expected).collect();
    for sentence in &all {
        assert!(!sentence.contains("  ") && !sentence.ends_with('.'), "{sentence}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), lab.steps[0].checks.len());
}
