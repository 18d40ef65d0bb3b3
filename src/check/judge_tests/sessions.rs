//! TLS sessions.

use super::*;
use crate::evidence::TlsSeen;

#[test]
fn a_session_is_judged_by_what_was_agreed_and_shown() {
    let authority = ca();
    let own = found(&pki::signed_by(&leaf(), &authority).unwrap()).facts;
    let good = TlsSeen {
        version: Some("1.3".into()),
        cipher: Some("TLS_AES_256_GCM_SHA384".into()),
        alpn: Some("http/1.1".into()),
        der: Vec::new(),
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
