//! What probes found of TLS.

use super::{certificate::broken_rule, evidence_of, reach};
use crate::{
    check::Probes,
    evidence::{Phase, ProbeOutcome, TlsSeen},
    lab::{TlsCheck, TlsExpect},
    verdict::{Finding, Judgement, Verdict},
};

pub(super) fn expected(check: &TlsCheck) -> String {
    let (session, expect) = (&check.session, &check.expect);
    let mut parts = Vec::new();
    parts.extend(expect.version.map(|version| format!("is TLS {}", version.as_str())));
    parts.extend(
        expect
            .cipher
            .as_ref()
            .map(|cipher| format!("has a cipher suite `{cipher}`")),
    );
    parts.extend(expect.alpn.as_ref().map(|alpn| format!("speaks {alpn}")));
    parts.extend(expect.asks_for_client.map(|asks| {
        let not = if asks { "" } else { "no " };
        format!("asks for {not}client certificate").replace("for client", "for a client")
    }));
    parts.extend(expect.verified.map(|verified| {
        let not = if verified { "verifies" } else { "does not verify" };
        format!("shows a certificate that {not}")
    }));
    let rules = expect.certificate.as_ref();
    parts.extend(rules.map(|rules| format!("shows a certificate that {}", super::certificate::describe(rules))));
    parts.extend(expect.usable.map(|usable| {
        let words = if usable { "is answered" } else { "is refused" };
        words.to_owned()
    }));
    let control = check.control.as_ref().map(reach::while_control).unwrap_or_default();
    format!(
        "a TLS session from {} to {}:{}, {}, {}{control}",
        session.from,
        session.to,
        session.port,
        session.tls.client,
        parts.join(", ")
    )
}

pub(super) fn judge(check: &TlsCheck, probes: &Probes) -> Judgement {
    let (verdict, finding, found) = look(check, probes);
    let tls = probes.probe.tls.as_deref();
    let certificates = tls.into_iter().flat_map(|seen| &seen.certificates);
    let proof = std::iter::once(&probes.probe)
        .chain(&probes.control)
        .map(evidence_of)
        .chain(
            tls.and_then(|seen| seen.shown.as_ref())
                .map(|shown| format!("it showed {shown}")),
        )
        .chain(certificates.map(|certificate| format!("the server showed {}", certificate.describe())));
    Judgement::new(verdict, finding, expected(check), crate::text::one_line(&found)).with_evidence(proof)
}

fn look(check: &TlsCheck, probes: &Probes) -> (Verdict, Finding, String) {
    let outcome = &probes.probe.outcome;
    let seen = reach::finding(outcome);
    let expect = &check.expect;
    if seen == Finding::NotMeasured {
        return (Verdict::Undetermined, seen, outcome.to_string());
    }
    // The handshake may have shown something even where it failed.
    let Some(tls) = probes.probe.tls.as_deref() else {
        if expect.usable == Some(false) && probes.control.is_some() {
            let opens = |outcome: &ProbeOutcome| *outcome == ProbeOutcome::TlsOpen;
            if let Err(why) = reach::controlled(probes, opens, &check.session.to.to_string()) {
                return (Verdict::Undetermined, Finding::NoControl, why);
            }
        }
        return (Verdict::Failed, seen, outcome.to_string());
    };
    if let Some((finding, found)) = other_session(expect, tls, outcome, probes.probe.started_ns) {
        return (Verdict::Failed, finding, found);
    }
    match expect.usable {
        None => (Verdict::Passed, Finding::Expected, summary(tls)),
        Some(true) if *outcome == ProbeOutcome::TlsOpen => (Verdict::Passed, Finding::Expected, summary(tls)),
        Some(true) => (Verdict::Failed, seen, outcome.to_string()),
        Some(false) => refused(check, probes),
    }
}

fn refused(check: &TlsCheck, probes: &Probes) -> (Verdict, Finding, String) {
    let outcome = &probes.probe.outcome;
    match outcome {
        ProbeOutcome::TlsRefused { .. } => {
            let opens = |outcome: &ProbeOutcome| *outcome == ProbeOutcome::TlsOpen;
            match reach::controlled(probes, opens, &check.session.to.to_string()) {
                Ok(()) => (Verdict::Passed, Finding::Expected, outcome.to_string()),
                Err(why) => (Verdict::Undetermined, Finding::NoControl, why),
            }
        }
        // Neither let in nor refused.
        ProbeOutcome::TlsSilent | ProbeOutcome::TimedOut { phase: Phase::Receive } => {
            (Verdict::Undetermined, Finding::TimedOut, outcome.to_string())
        }
        other => (Verdict::Failed, reach::finding(other), other.to_string()),
    }
}

/// The first thing in which a session is not as expected.
fn other_session(
    expect: &TlsExpect,
    tls: &TlsSeen,
    outcome: &ProbeOutcome,
    started_ns: u64,
) -> Option<(Finding, String)> {
    // What a handshake that failed did not come to is explained by its failure.
    let unknown = || (reach::finding(outcome), outcome.to_string());
    if let Some(version) = expect.version {
        match tls.version.as_deref() {
            Some(found) if found == version.as_str() => {}
            Some(found) => return Some((Finding::OtherTls, format!("it is TLS {found}"))),
            None => return Some(unknown()),
        }
    }
    if let Some(cipher) = &expect.cipher {
        match tls.cipher.as_deref() {
            Some(found) if cipher.is_match(found) => {}
            Some(found) => return Some((Finding::OtherTls, format!("its cipher suite is {found}"))),
            None => return Some(unknown()),
        }
    }
    if let Some(alpn) = &expect.alpn {
        match (&tls.alpn, &tls.version) {
            (Some(found), _) if found == alpn => {}
            (Some(found), _) => return Some((Finding::OtherTls, format!("it speaks {found}"))),
            (None, Some(_)) => return Some((Finding::OtherTls, "no application protocol was agreed on".to_owned())),
            (None, None) => return Some(unknown()),
        }
    }
    if let Some(asks) = expect.asks_for_client
        && asks != tls.asked_for_client
    {
        return Some(if asks {
            let found = "the server asked for no client certificate".to_owned();
            (Finding::NotAsked, found)
        } else {
            let found = "the server asked for a client certificate".to_owned();
            (Finding::OtherTls, found)
        });
    }
    if let Some(verified) = expect.verified {
        match tls.verified {
            Some(found) if found == verified => {}
            Some(true) => return Some((Finding::OtherTls, "the server's certificate verifies".to_owned())),
            Some(false) => {
                let why = tls.verify_error.clone().unwrap_or_default();
                return Some((
                    Finding::Untrusted,
                    format!("the server's certificate does not verify: {why}"),
                ));
            }
            None => return Some(unknown()),
        }
    }
    if let Some(rules) = &expect.certificate {
        let Some(certificate) = tls.certificates.first() else {
            return Some(unknown());
        };
        let now = i64::try_from(started_ns / 1_000_000_000).unwrap_or(i64::MAX);
        return broken_rule(rules, certificate, now);
    }
    None
}

fn summary(tls: &TlsSeen) -> String {
    let version = tls.version.as_deref().unwrap_or("?");
    let cipher = tls.cipher.as_deref().unwrap_or("?");
    let asked = if tls.asked_for_client {
        ", a client certificate asked for"
    } else {
        ""
    };
    format!("TLS {version}, {cipher}{asked}")
}
