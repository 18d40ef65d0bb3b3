//! What probes found of HTTP, TCP and DNS.

use super::{calls::statuses, evidence_of, shown};
use crate::{
    check::Probes,
    evidence::{Phase, ProbeOutcome},
    lab::{Client, Control, DnsCheck, HttpCheck, HttpExpect, Reach, Resolution, TcpCheck},
    verdict::{Finding, Judgement, Verdict},
};

/// What an outcome comes to.
pub(super) fn finding(outcome: &ProbeOutcome) -> Finding {
    match outcome {
        ProbeOutcome::Answered { .. } => Finding::WrongStatus,
        ProbeOutcome::Connected | ProbeOutcome::TlsOpen => Finding::Allowed,
        ProbeOutcome::Resolved { .. } => Finding::Resolved,
        ProbeOutcome::NoSuchHost
        | ProbeOutcome::DnsFailed { .. }
        | ProbeOutcome::TimedOut { phase: Phase::Resolve } => Finding::Unresolved,
        ProbeOutcome::Refused | ProbeOutcome::Reset { .. } => Finding::Refused,
        ProbeOutcome::TimedOut { .. } | ProbeOutcome::Unreachable { .. } | ProbeOutcome::TlsSilent => Finding::TimedOut,
        ProbeOutcome::TlsFailed { .. } => Finding::NotTls,
        ProbeOutcome::TlsRefused { .. } => Finding::TlsRefused,
        ProbeOutcome::Untrusted { .. } => Finding::Untrusted,
        ProbeOutcome::ProtocolError { .. } => Finding::WrongStatus,
        ProbeOutcome::NotRun { .. } => Finding::NotMeasured,
    }
}

/// Whether the connection opened, whatever came after.
const fn opened(outcome: &ProbeOutcome) -> bool {
    match outcome {
        ProbeOutcome::TimedOut { phase } | ProbeOutcome::Reset { phase } => {
            matches!(phase, Phase::Handshake | Phase::Send | Phase::Receive)
        }
        other => other.reached(),
    }
}

/// Whether an outcome is what is expected of the network.
fn meets(expect: Reach, outcome: &ProbeOutcome) -> bool {
    let seen = finding(outcome);
    match expect {
        Reach::Allowed => opened(outcome),
        Reach::Blocked => !opened(outcome) && matches!(seen, Finding::Refused | Finding::TimedOut),
        Reach::Refused => !opened(outcome) && seen == Finding::Refused,
        Reach::TimedOut => !opened(outcome) && seen == Finding::TimedOut,
        Reach::TlsRefused => seen == Finding::TlsRefused,
    }
}

const fn happens(reach: Reach) -> &'static str {
    match reach {
        Reach::Allowed => "opens",
        Reach::Blocked => "does not open",
        Reach::Refused => "is refused",
        Reach::TimedOut => "gets no answer",
        Reach::TlsRefused => "is refused in TLS",
    }
}

/// Whether the control of an expectation that something does not happen succeeded; if not, why that shows nothing.
pub(super) fn controlled(
    probes: &Probes,
    succeeded: impl Fn(&ProbeOutcome) -> bool,
    callee: &str,
) -> Result<(), String> {
    let outcome = &probes.probe.outcome;
    match &probes.control {
        Some(control) if succeeded(&control.outcome) => Ok(()),
        Some(control) => Err(format!(
            "{outcome}; but the control does not succeed either ({}): is {callee} alive?",
            control.outcome
        )),
        None => Err(format!("{outcome}; without a control that shows nothing")),
    }
}

/// Who the control is, for the sentence of what is expected.
pub(super) fn while_control(control: &Control) -> String {
    match (&control.from, &control.client) {
        (Some(from), Some(client)) => format!(", while one from {from} {client} succeeds"),
        (Some(from), None) => format!(", while one from {from} succeeds"),
        (None, Some(client)) => format!(", while one {client} succeeds"),
        (None, None) => String::new(),
    }
}

pub(super) fn expected_tcp(check: &TcpCheck) -> String {
    let TcpCheck { from, to, port, .. } = check;
    let what = happens(check.expect);
    match &check.control {
        Some(control) => format!("a connection from {from} to {to}:{port} {what}, while one from {control} opens"),
        None => format!("a connection from {from} to {to}:{port} {what}"),
    }
}

pub(super) fn judge_tcp(check: &TcpCheck, probes: &Probes) -> Judgement {
    let outcome = &probes.probe.outcome;
    let proof = std::iter::once(&probes.probe).chain(&probes.control).map(evidence_of);
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_tcp(check), found);
    let seen = finding(outcome);
    let judgement = if seen == Finding::NotMeasured {
        say(Verdict::Undetermined, seen, outcome.to_string())
    } else if !meets(check.expect, outcome) {
        say(Verdict::Failed, seen, outcome.to_string())
    } else if check.expect == Reach::Allowed {
        say(Verdict::Passed, Finding::Expected, outcome.to_string())
    } else {
        match controlled(probes, ProbeOutcome::reached, &check.to.to_string()) {
            Ok(()) => say(Verdict::Passed, Finding::Expected, outcome.to_string()),
            Err(why) => say(Verdict::Undetermined, Finding::NoControl, why),
        }
    };
    judgement.with_evidence(proof)
}

pub(super) fn expected_http(check: &HttpCheck) -> String {
    let HttpExpect {
        status,
        outcome,
        body,
        headers,
        ..
    } = &check.expect;
    let mut parts = Vec::new();
    match (status.is_empty(), outcome) {
        (false, _) => parts.push(format!("is answered {}", statuses(status))),
        (true, Some(Reach::Allowed)) | (true, None) => parts.push("is answered".to_owned()),
        (true, Some(outcome)) => parts.push(happens(*outcome).to_owned()),
    }
    parts.extend(headers.iter().map(|(name, rule)| format!("its header {name} {rule}")));
    parts.extend(body.iter().map(|rule| format!("its body {rule}")));
    let tls = match (&check.tls.client, check.secure) {
        (_, false) => String::new(),
        (Client::None, true) => " over TLS".to_owned(),
        (client, true) => format!(" over TLS, {client},"),
    };
    let control = check.control.as_ref().map(while_control).unwrap_or_default();
    format!(
        "{}: {} {} at {}{tls} {}{control}",
        check.from,
        check.method,
        check.path,
        check.to,
        parts.join(", ")
    )
}

pub(super) fn judge_http(check: &HttpCheck, probes: &Probes) -> Judgement {
    let outcome = &probes.probe.outcome;
    let proof = std::iter::once(&probes.probe).chain(&probes.control).map(evidence_of);
    let (verdict, finding, found) = look_http(check, probes, outcome);
    Judgement::new(verdict, finding, expected_http(check), found).with_evidence(proof)
}

fn look_http(check: &HttpCheck, probes: &Probes, outcome: &ProbeOutcome) -> (Verdict, Finding, String) {
    let seen = finding(outcome);
    if seen == Finding::NotMeasured {
        return (Verdict::Undetermined, seen, outcome.to_string());
    }
    let expect = &check.expect;
    if let Some(wanted) = expect.outcome.filter(|outcome| *outcome != Reach::Allowed) {
        if !meets(wanted, outcome) {
            // What the peer said in TLS says more than that the connection opened.
            let in_tls = matches!(seen, Finding::TlsRefused | Finding::Untrusted | Finding::NotTls);
            let seen = if opened(outcome) && !in_tls {
                Finding::Allowed
            } else {
                seen
            };
            return (Verdict::Failed, seen, outcome.to_string());
        }
        let answered = |outcome: &ProbeOutcome| outcome.status().is_some();
        return match controlled(probes, answered, &check.to.to_string()) {
            Ok(()) => (Verdict::Passed, Finding::Expected, outcome.to_string()),
            Err(why) => (Verdict::Undetermined, Finding::NoControl, why),
        };
    }
    let ProbeOutcome::Answered {
        status, headers, body, ..
    } = outcome
    else {
        return (Verdict::Failed, seen, outcome.to_string());
    };
    if !expect.status.is_empty() && !expect.status.contains(status) {
        let found = if body.trim().is_empty() {
            outcome.to_string()
        } else {
            format!("{outcome}: {}", shown(body))
        };
        return (Verdict::Failed, Finding::WrongStatus, found);
    }
    for (name, rule) in &expect.headers {
        let found = headers.iter().find(|(header, _)| header == name);
        match found {
            Some((_, value)) if rule.meets(value) => {}
            Some((_, value)) => {
                let found = format!("the header {name} is {}", shown(value));
                return (Verdict::Failed, Finding::OtherText, found);
            }
            None if rule.wants_only_absence() => {}
            None => {
                return (
                    Verdict::Failed,
                    Finding::OtherText,
                    format!("there is no header {name}"),
                );
            }
        }
    }
    if expect.body.as_ref().is_some_and(|rule| !rule.meets(body)) {
        let found = if body.trim().is_empty() {
            "the body is empty".to_owned()
        } else {
            format!("the body is {}", shown(body))
        };
        return (Verdict::Failed, Finding::OtherText, found);
    }
    (Verdict::Passed, Finding::Expected, outcome.to_string())
}

pub(super) fn expected_dns(check: &DnsCheck) -> String {
    let DnsCheck { from, name, .. } = check;
    let what = match (check.expect, &check.to) {
        (Resolution::Resolves, Some(to)) => format!("resolves to the address of {to}"),
        (Resolution::Resolves, None) => "resolves".to_owned(),
        (Resolution::NoSuchName, _) => "does not exist, as DNS says".to_owned(),
        (Resolution::NoAnswer, _) => "is not answered by DNS".to_owned(),
        (Resolution::Fails, _) => "does not resolve".to_owned(),
    };
    let control = check.control.as_ref();
    let control = control.map_or_else(String::new, |control| format!(", while it does from {control}"));
    format!("from {from}, the name {name} {what}{control}")
}

pub(super) fn judge_dns(check: &DnsCheck, probes: &Probes) -> Judgement {
    let outcome = &probes.probe.outcome;
    let proof = std::iter::once(&probes.probe).chain(&probes.control).map(evidence_of);
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_dns(check), found);
    let no_answer = matches!(
        outcome,
        ProbeOutcome::TimedOut { phase: Phase::Resolve } | ProbeOutcome::DnsFailed { .. }
    );
    let no_name = *outcome == ProbeOutcome::NoSuchHost;
    let judgement = match (outcome, check.expect) {
        (ProbeOutcome::NotRun { .. }, _) => say(Verdict::Undetermined, Finding::NotMeasured, outcome.to_string()),
        (ProbeOutcome::Resolved { .. }, Resolution::Resolves) => {
            let resolved = &probes.probe.resolved;
            let right = probes.expected.is_empty() || resolved.iter().any(|addr| probes.expected.contains(addr));
            if right {
                say(Verdict::Passed, Finding::Expected, outcome.to_string())
            } else {
                say(Verdict::Failed, Finding::OtherAddress, outcome.to_string())
            }
        }
        (ProbeOutcome::Resolved { .. }, _) => say(Verdict::Failed, Finding::Resolved, outcome.to_string()),
        (_, Resolution::NoSuchName) if no_name => say(Verdict::Passed, Finding::Expected, outcome.to_string()),
        (_, Resolution::NoAnswer) if no_answer => controlled_dns(check, probes),
        (_, Resolution::Fails) if no_answer || no_name => controlled_dns(check, probes),
        _ => say(Verdict::Failed, Finding::Unresolved, outcome.to_string()),
    };
    judgement.with_evidence(proof)
}

fn controlled_dns(check: &DnsCheck, probes: &Probes) -> Judgement {
    let resolves = |outcome: &ProbeOutcome| matches!(outcome, ProbeOutcome::Resolved { .. });
    let (verdict, finding, found) = match controlled(probes, resolves, "DNS") {
        Ok(()) => (Verdict::Passed, Finding::Expected, probes.probe.outcome.to_string()),
        Err(why) => (Verdict::Undetermined, Finding::NoControl, why),
    };
    Judgement::new(verdict, finding, expected_dns(check), found)
}
