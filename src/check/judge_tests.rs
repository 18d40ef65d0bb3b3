//! Every finding of the checks of HTTP, DNS, TLS, objects, certificates, files and programs: one line a case.

use std::sync::LazyLock;

use serde_json::json;

use super::*;
use crate::{
    evidence::{CertificateFacts, Phase, ProbeId, ProbeOutcome, ProbeResult, TlsSeen, chain_of, key_of, public_of},
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

#[test]
fn an_answer_is_judged_by_status_headers_and_body() {
    let not_run = ProbeOutcome::NotRun { reason: "x".into() };
    for (outcome, expected) in [
        (answered(200, "no, thanks", "all ok"), PASSED),
        (answered(201, "no", "ok"), PASSED),
        (answered(403, "no", "ok"), failed(Finding::WrongStatus)),
        (answered(200, "yes", "ok"), failed(Finding::OtherText)),
        (answered(200, "no", "nothing"), failed(Finding::OtherText)),
        (answered(200, "no", "ok, but bad"), failed(Finding::OtherText)),
        (ProbeOutcome::Refused, failed(Finding::Refused)),
        (SILENT, failed(Finding::TimedOut)),
        (NO_DNS, failed(Finding::Unresolved)),
        (ProbeOutcome::NoSuchHost, failed(Finding::Unresolved)),
        (alert(), failed(Finding::TlsRefused)),
        (
            ProbeOutcome::Untrusted { reason: "x".into() },
            failed(Finding::Untrusted),
        ),
        (ProbeOutcome::TlsFailed { reason: "x".into() }, failed(Finding::NotTls)),
        (not_run, unclear(Finding::NotMeasured)),
    ] {
        let told = format!("{outcome}");
        assert_eq!(says("answered", &probed(result(outcome), None)), expected, "{told}");
    }
}

#[test]
fn a_call_that_must_come_to_nothing_needs_its_control() {
    let ok = || Some(answered(200, "", ""));
    for (outcome, control, expected) in [
        (SILENT, ok(), PASSED),
        (ProbeOutcome::Refused, ok(), PASSED),
        (SILENT, Some(SILENT), unclear(Finding::NoControl)),
        (SILENT, None, unclear(Finding::NoControl)),
        (answered(401, "", ""), ok(), failed(Finding::Allowed)),
        // The connection opened, whatever the service did then.
        (LATE, ok(), failed(Finding::Allowed)),
        // Cut DNS is no cut connection.
        (NO_DNS, ok(), failed(Finding::Unresolved)),
    ] {
        let told = format!("{outcome}");
        assert_eq!(says("cut", &probed(result(outcome), control)), expected, "{told}");
    }
    for (outcome, control, expected) in [
        (alert(), ok(), PASSED),
        (alert(), Some(alert()), unclear(Finding::NoControl)),
        (answered(200, "", ""), ok(), failed(Finding::Allowed)),
        (ProbeOutcome::Refused, ok(), failed(Finding::Refused)),
        (SILENT, ok(), failed(Finding::TimedOut)),
    ] {
        let told = format!("{outcome}");
        assert_eq!(says("tls-cut", &probed(result(outcome), control)), expected, "{told}");
    }
}

#[test]
fn a_call_in_a_log_is_told_by_status_and_caller() {
    let call = |method: &str, status: u16, caller: &str, probe: Option<&str>| Call {
        ts: String::new(),
        level: "access".to_owned(),
        caller_ip: "10.0.0.9".to_owned(),
        caller: caller.to_owned(),
        method: method.to_owned(),
        path: "/x".to_owned(),
        status,
        probe: probe.map(str::to_owned),
    };
    let log = |calls: Vec<Call>| {
        Evidence::Calls(Calls {
            from: vec!["10.0.0.9".to_owned()],
            callees: 1,
            calls,
        })
    };
    let named = "certificate of CN=a";
    for (calls, expected) in [
        (vec![call("GET", 200, named, None)], PASSED),
        (vec![call("GET", 200, "none", None)], failed(Finding::OtherText)),
        (vec![call("GET", 401, named, None)], failed(Finding::WrongStatus)),
        (vec![call("POST", 200, named, None)], failed(Finding::NoCall)),
        (vec![call("GET", 200, named, Some("1"))], unclear(Finding::NoCall)),
        (vec![], unclear(Finding::NoCall)),
    ] {
        assert_eq!(says("caller", &log(calls)), expected);
    }
    for (calls, expected) in [
        (vec![call("login", 401, "", None)], PASSED),
        (vec![call("login", 200, "", None), call("login", 401, "", None)], PASSED),
        (vec![call("login", 200, "", None)], failed(Finding::Allowed)),
        (vec![], unclear(Finding::NoCall)),
    ] {
        assert_eq!(says("turned-away", &log(calls)), expected);
    }
}

#[test]
fn names_are_judged_by_what_dns_says() {
    let resolved = |address: &str| ProbeResult {
        resolved: vec![address.parse().unwrap()],
        ..result(ProbeOutcome::Resolved {
            answers: vec![address.to_owned()],
        })
    };
    let servfail = || ProbeOutcome::DnsFailed { reason: "x".into() };
    let yes = || Some(resolved("10.96.0.7").outcome);
    for (name, probe, control, expected) in [
        ("resolves", resolved("10.96.0.7"), None, PASSED),
        ("resolves", resolved("10.96.0.8"), None, failed(Finding::OtherAddress)),
        (
            "resolves",
            result(ProbeOutcome::NoSuchHost),
            None,
            failed(Finding::Unresolved),
        ),
        ("resolves", result(NO_DNS), None, failed(Finding::Unresolved)),
        ("no-answer", result(NO_DNS), yes(), PASSED),
        ("no-answer", result(servfail()), yes(), PASSED),
        ("no-answer", result(NO_DNS), Some(NO_DNS), unclear(Finding::NoControl)),
        ("no-answer", resolved("10.96.0.7"), yes(), failed(Finding::Resolved)),
        (
            "no-answer",
            result(ProbeOutcome::NoSuchHost),
            yes(),
            failed(Finding::Unresolved),
        ),
        ("no-name", result(ProbeOutcome::NoSuchHost), None, PASSED),
        ("no-name", resolved("10.96.0.7"), None, failed(Finding::Resolved)),
        ("no-name", result(NO_DNS), None, failed(Finding::Unresolved)),
    ] {
        let told = format!("{name}: {}", probe.outcome);
        assert_eq!(says(name, &probed(probe, control)), expected, "{told}");
    }
}

#[test]
fn objects_count_when_the_student_made_them_as_asked() {
    let policy = |name: &str, manager: &str, spec: serde_json::Value| {
        json!({
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "managedFields": [{ "manager": manager, "operation": "Apply" }] },
            "spec": spec,
        })
    };
    let good = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] });
    let objects = |found: Vec<serde_json::Value>| {
        Evidence::Objects(Objects {
            kind_known: true,
            found,
        })
    };
    for (found, expected) in [
        (vec![policy("default-deny", "kubectl", good.clone())], PASSED),
        (vec![], unclear(Finding::NoObject)),
        (
            vec![policy("default-deny", "ztlab", good.clone())],
            unclear(Finding::NoObject),
        ),
        (
            vec![policy("deny", "kubectl", good.clone())],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": { "matchLabels": {} }, "policyTypes": ["Ingress"] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Egress"] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [] }),
            )],
            failed(Finding::OtherObject),
        ),
        (
            vec![policy(
                "default",
                "kubectl",
                json!({ "podSelector": {}, "policyTypes": ["Ingress"], "egress": [1, 2] }),
            )],
            failed(Finding::OtherObject),
        ),
        // One that is right is enough, whatever else there is.
        (
            vec![
                policy("other", "kubectl", json!({})),
                policy("default-deny", "kubectl-edit", good.clone()),
            ],
            PASSED,
        ),
    ] {
        assert_eq!(says("object", &objects(found.clone())), expected, "{found:?}");
    }
    let unknown = Evidence::Objects(Objects::default());
    assert_eq!(says("object", &unknown), unclear(Finding::NoObject));
    assert_eq!(says("none", &objects(vec![])), PASSED);
    let secret = json!({ "kind": "Secret", "metadata": { "name": "ca-key" }, "data": { "k": "aGlkZGVu" } });
    let judgement = judge(&check("none"), &objects(vec![secret]));
    assert_eq!(judgement.finding, Finding::OtherObject);
    assert!(!format!("{judgement:?}").contains("aGlkZGVu"));
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
fn a_certificate_is_judged_by_what_it_says_and_belongs_to() {
    let (authority, namesake) = (ca(), ca());
    let made = |recipe: Recipe| pki::signed_by(&recipe, &authority).unwrap();
    let good = made(leaf());
    let with = |certificate: &TlsIdentity| Certificates {
        certificate: Ok(found(certificate)),
        signer: Some(Ok(found(&authority))),
        key: Some(Ok(public(certificate))),
        keys: Some(Vec::new()),
        now: now(),
    };
    let says = |name: &str, found: Certificates| says(name, &Evidence::Certificate(Box::new(found)));
    assert_eq!(says("certificate", with(&good)), PASSED);
    let missing = |why: &str| Certificates {
        certificate: Err(why.to_owned()),
        ..with(&good)
    };
    assert_eq!(
        says("certificate", missing("the file pki/b.crt is not there")),
        unclear(Finding::NoCertificate)
    );
    assert_eq!(
        says("certificate", missing("the file pki/b.crt: no PEM")),
        failed(Finding::NoCertificate)
    );
    let other = failed(Finding::OtherCertificate);
    let role = |server: bool, client: bool| Role::Leaf { server, client };
    for (recipe, expected) in [
        (
            Recipe {
                name: "c".into(),
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                names: vec!["b".into()],
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                names: Vec::new(),
                ..leaf()
            },
            other,
        ),
        (Recipe { days: 365, ..leaf() }, other),
        (
            Recipe {
                role: role(false, true),
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                role: Role::Authority {
                    flag: true,
                    path_length: None,
                },
                ..leaf()
            },
            other,
        ),
        (
            Recipe {
                expired: true,
                ..leaf()
            },
            failed(Finding::Expired),
        ),
    ] {
        let told = format!("{recipe:?}");
        assert_eq!(says("certificate", with(&made(recipe))), expected, "{told}");
    }
    // Nearly over, not begun, over.
    let end = found(&good).facts.not_after;
    for (now, expected) in [
        (end - 3600, other),
        (0, failed(Finding::Expired)),
        (end + 1, failed(Finding::Expired)),
    ] {
        assert_eq!(
            says("certificate", Certificates { now, ..with(&good) }),
            expected,
            "{now}"
        );
    }
    assert_eq!(says("ended", with(&good)), failed(Finding::Expired));
    assert_eq!(
        says(
            "ended",
            Certificates {
                now: end + 1,
                ..with(&good)
            }
        ),
        PASSED
    );
    let unsigned = Certificates {
        signer: Some(Ok(found(&namesake))),
        ..with(&good)
    };
    assert_eq!(says("certificate", unsigned), failed(Finding::NotSigned));
    let no_signer = Certificates {
        signer: Some(Err("it is not there".to_owned())),
        ..with(&good)
    };
    assert_eq!(says("certificate", no_signer), failed(Finding::NoCertificate));
    for key in [Ok(public(&namesake)), Err("is not there".to_owned())] {
        let lost = Certificates {
            key: Some(key),
            ..with(&good)
        };
        assert_eq!(says("certificate", lost), failed(Finding::OtherKey));
    }
    let exposed = Certificates {
        keys: Some(vec![KeyAt {
            at: "the key tls.key of the Secret b-tls".to_owned(),
            public: public(&good),
        }]),
        ..with(&good)
    };
    assert_eq!(says("certificate", exposed), failed(Finding::KeyExposed));
}

#[test]
fn an_authority_is_one_that_says_so() {
    let says = |identity: &TlsIdentity| {
        let found = Certificates {
            certificate: Ok(found(identity)),
            signer: None,
            key: None,
            keys: None,
            now: now(),
        };
        says("authority", &Evidence::Certificate(Box::new(found)))
    };
    let authority = ca();
    assert_eq!(says(&authority), PASSED);
    let with = |role: Role| Recipe {
        role,
        ..Recipe::leaf("shop CA")
    };
    for role in [
        Role::Authority {
            flag: false,
            path_length: None,
        },
        Role::Authority {
            flag: true,
            path_length: None,
        },
        Role::Authority {
            flag: true,
            path_length: Some(2),
        },
        Role::Leaf {
            server: true,
            client: true,
        },
    ] {
        let identity = pki::self_signed(&with(role)).unwrap();
        assert_eq!(says(&identity), failed(Finding::OtherCertificate));
    }
    let signed = pki::signed_by(
        &with(Role::Authority {
            flag: true,
            path_length: Some(0),
        }),
        &authority,
    )
    .unwrap();
    // Its issuer has the same name, and another key.
    assert_eq!(says(&signed), failed(Finding::OtherCertificate));
}

#[test]
fn a_session_is_judged_by_what_was_agreed_and_shown() {
    let authority = ca();
    let own = found(&pki::signed_by(&leaf(), &authority).unwrap()).facts;
    let good = TlsSeen {
        version: Some("1.3".into()),
        cipher: Some("TLS_AES_256_GCM_SHA384".into()),
        alpn: Some("http/1.1".into()),
        certificates: vec![own.clone()],
        verified: Some(true),
        verify_error: None,
        asked_for_client: true,
        shown: Some("CN=m".into()),
    };
    let at = u64::try_from(now()).unwrap() * 1_000_000_000;
    let with = |seen: TlsSeen, outcome: ProbeOutcome| ProbeResult {
        tls: Some(Box::new(seen)),
        started_ns: at,
        ..result(outcome)
    };
    let open = ProbeOutcome::TlsOpen;
    let other_name = CertificateFacts {
        dns: vec!["c".into()],
        ..own
    };
    for (seen, outcome, expected) in [
        (good.clone(), open.clone(), PASSED),
        (
            TlsSeen {
                version: Some("1.2".into()),
                ..good.clone()
            },
            open.clone(),
            failed(Finding::OtherTls),
        ),
        (
            TlsSeen {
                cipher: Some("TLS_AES_128_GCM_SHA256".into()),
                ..good.clone()
            },
            open.clone(),
            failed(Finding::OtherTls),
        ),
        (
            TlsSeen {
                alpn: None,
                ..good.clone()
            },
            open.clone(),
            failed(Finding::OtherTls),
        ),
        (
            TlsSeen {
                alpn: Some("h2".into()),
                ..good.clone()
            },
            open.clone(),
            failed(Finding::OtherTls),
        ),
        (
            TlsSeen {
                asked_for_client: false,
                ..good.clone()
            },
            open.clone(),
            failed(Finding::NotAsked),
        ),
        (
            TlsSeen {
                verified: Some(false),
                ..good.clone()
            },
            open.clone(),
            failed(Finding::Untrusted),
        ),
        (
            TlsSeen {
                certificates: vec![other_name],
                ..good.clone()
            },
            open,
            failed(Finding::OtherCertificate),
        ),
        (good.clone(), alert(), failed(Finding::TlsRefused)),
        (good.clone(), ProbeOutcome::TlsSilent, failed(Finding::TimedOut)),
        (
            TlsSeen {
                version: None,
                ..good.clone()
            },
            alert(),
            failed(Finding::TlsRefused),
        ),
    ] {
        let told = format!("{seen:?} {outcome}");
        assert_eq!(says("session", &probed(with(seen, outcome), None)), expected, "{told}");
    }
    for (outcome, expected) in [
        (ProbeOutcome::Refused, failed(Finding::Refused)),
        (SILENT, failed(Finding::TimedOut)),
        (ProbeOutcome::TlsFailed { reason: "x".into() }, failed(Finding::NotTls)),
        (
            ProbeOutcome::NotRun { reason: "x".into() },
            unclear(Finding::NotMeasured),
        ),
    ] {
        assert_eq!(says("session", &probed(result(outcome), None)), expected);
    }
    for (outcome, control, expected) in [
        (alert(), ProbeOutcome::TlsOpen, PASSED),
        (alert(), alert(), unclear(Finding::NoControl)),
        (ProbeOutcome::TlsOpen, ProbeOutcome::TlsOpen, failed(Finding::Allowed)),
        (
            ProbeOutcome::TlsSilent,
            ProbeOutcome::TlsOpen,
            unclear(Finding::TimedOut),
        ),
    ] {
        let probe = with(good.clone(), outcome);
        assert_eq!(says("shut", &probed(probe, Some(control))), expected);
    }
    // No session at all: cut off, if others get through, else dead.
    let refused = || result(ProbeOutcome::Refused);
    assert_eq!(
        says("shut", &probed(refused(), Some(ProbeOutcome::TlsOpen))),
        failed(Finding::Refused)
    );
    assert_eq!(
        says("shut", &probed(refused(), Some(ProbeOutcome::Refused))),
        unclear(Finding::NoControl)
    );
}

#[test]
fn files_are_judged_by_what_they_hold() {
    let there = |text: &str| Evidence::File(FileFound::There(text.to_owned()));
    for (name, evidence, expected) in [
        ("file", there("Identity is missing"), PASSED),
        ("file", there("identity: TODO"), failed(Finding::OtherText)),
        ("file", there(""), failed(Finding::OtherText)),
        ("file", Evidence::File(FileFound::Missing), unclear(Finding::NoFile)),
        (
            "file",
            Evidence::File(FileFound::Broken("a link".into())),
            failed(Finding::OtherText),
        ),
        ("fields", there("level: 1"), PASSED),
        ("fields", there("{\"level\": 1.0}"), PASSED),
        ("fields", there("level: 2"), failed(Finding::OtherText)),
        ("fields", there("levels: 1"), failed(Finding::OtherText)),
        ("fields", there("a: [b"), failed(Finding::OtherText)),
        ("fields", there("a: &a [*a, *a]"), failed(Finding::OtherText)),
        ("gone", Evidence::File(FileFound::Missing), PASSED),
        ("gone", there("x"), failed(Finding::OtherText)),
    ] {
        assert_eq!(says(name, &evidence), expected, "{name} {evidence:?}");
    }
}

#[test]
fn programs_are_judged_by_code_and_output() {
    let ran = |code: i32, output: &str| {
        Evidence::Exec(ExecFound {
            pod: "m-1".to_owned(),
            command: "env".to_owned(),
            code,
            output: output.to_owned(),
        })
    };
    for (name, evidence, expected) in [
        ("program", ran(0, "API_KEY=x"), PASSED),
        ("program", ran(1, "API_KEY=x"), failed(Finding::OtherExit)),
        ("program", ran(0, "HOME=/"), failed(Finding::OtherText)),
        ("program", ran(0, ""), failed(Finding::OtherText)),
        ("program", Evidence::NoPod("m".into()), unclear(Finding::NoWorkload)),
        ("fails", ran(7, ""), PASSED),
        ("fails", ran(0, ""), failed(Finding::OtherExit)),
    ] {
        assert_eq!(says(name, &evidence), expected, "{name} {evidence:?}");
    }
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
