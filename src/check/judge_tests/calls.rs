//! Calls: by probe, in a log, and names.

use super::*;

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
        certificate: None,
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
            ..Calls::default()
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
fn a_refused_handshake_is_the_students_own_and_needs_somebody_who_was_let_in() {
    let refused = |ip: &str, port: u16, reason: &str| Refused {
        ts: "2026-01-01T10:00:30.000Z".to_owned(),
        level: "refused".to_owned(),
        caller_ip: ip.to_owned(),
        caller_port: port,
        reason: reason.to_owned(),
    };
    let call = |ts: &str, ip: &str| Call {
        ts: ts.to_owned(),
        level: "access".to_owned(),
        caller_ip: ip.to_owned(),
        caller: "none".to_owned(),
        certificate: None,
        method: "POST".to_owned(),
        path: "/charge".to_owned(),
        status: 200,
        probe: None,
    };
    let (student, application) = ("10.0.0.9", "10.0.0.8");
    let unknown = "invalid peer certificate: UnknownIssuer";
    let beside = || vec![call("2026-01-01T10:00:00.000Z", application)];
    for (tried, calls, expected) in [
        (vec![refused(student, 40_000, unknown)], beside(), PASSED),
        // The last one may be another attempt.
        (
            vec![
                refused(student, 40_000, unknown),
                refused(student, 40_001, "peer sent no certificates"),
            ],
            beside(),
            PASSED,
        ),
        (
            vec![refused(student, 40_000, "peer sent no certificates")],
            beside(),
            failed(Finding::OtherText),
        ),
        // A probe of ztlab from the same pod.
        (
            vec![refused(student, 65_000, unknown)],
            beside(),
            unclear(Finding::NoCall),
        ),
        (
            vec![refused("10.0.0.7", 40_000, unknown)],
            beside(),
            unclear(Finding::NoCall),
        ),
        // It refuses everybody, or did then.
        (
            vec![refused(student, 40_000, unknown)],
            vec![],
            unclear(Finding::NoControl),
        ),
        (
            vec![refused(student, 40_000, unknown)],
            vec![call("2026-01-01T10:02:00.000Z", application)],
            unclear(Finding::NoControl),
        ),
        (
            vec![refused(student, 40_000, unknown)],
            vec![call("then", application)],
            unclear(Finding::NoControl),
        ),
        (
            vec![],
            vec![call("2026-01-01T10:00:00.000Z", student)],
            failed(Finding::Allowed),
        ),
        (vec![], vec![], unclear(Finding::NoCall)),
    ] {
        let told = format!("{tried:?}, {calls:?}");
        let evidence = Evidence::Calls(Calls {
            from: vec![student.to_owned()],
            callees: 1,
            calls,
            refused: tried,
            control: vec![application.to_owned()],
        });
        assert_eq!(says("shut-out", &evidence), expected, "{told}");
    }
    // Somebody who is let in at first, and refused later.
    for (tried, expected) in [
        (vec![], unclear(Finding::NoCall)),
        (vec![refused(student, 40_000, "the certificate expired")], PASSED),
    ] {
        let evidence = Evidence::Calls(Calls {
            from: vec![student.to_owned()],
            callees: 1,
            calls: vec![call("2026-01-01T10:00:00.000Z", student)],
            refused: tried,
            control: vec![student.to_owned()],
        });
        assert_eq!(says("shut-out-later", &evidence), expected);
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
