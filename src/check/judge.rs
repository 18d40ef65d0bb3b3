//! From evidence to judgement.

use super::{Call, Calls, Evidence, Loot, Probes, question};
use crate::{
    evidence::{CaptureEvidence, ProbeOutcome, ProbeResult},
    lab::{CaptureCheck, Check, CheckKind, DatabaseCheck, HttpCheck, Pattern, Reach, Seen, TcpCheck},
    packet::Message,
    verdict::{Finding, Judgement, Verdict},
};

/// How many lines of evidence a judgement carries.
const LINES: usize = 5;

/// Judges a check by its evidence.
pub fn judge(check: &Check, evidence: &Evidence) -> Judgement {
    match (&check.kind, evidence) {
        (CheckKind::Capture(capture), Evidence::Capture { seen, loot }) => judge_capture(capture, seen, loot),
        (CheckKind::Question(question), Evidence::Answer { given, loot }) => {
            question::judge(question, given.as_deref(), loot)
        }
        (CheckKind::Http(http), Evidence::Calls(calls)) => judge_calls(http, calls),
        (CheckKind::Http(http), Evidence::Probes(probes)) => judge_http(http, &probes.probe),
        (CheckKind::Database(database), Evidence::Calls(calls)) => judge_database(database, calls),
        (CheckKind::Tcp(tcp), Evidence::Probes(probes)) => judge_tcp(tcp, probes),
        (_, Evidence::Unavailable(reason)) => {
            Judgement::new(Verdict::Undetermined, Finding::NotMeasured, expected(check), reason)
        }
        _ => Judgement::new(
            Verdict::Undetermined,
            Finding::NotMeasured,
            expected(check),
            "other evidence was gathered than this check is judged by",
        ),
    }
}

/// What a check expects, as a sentence that gives no answer away.
pub fn expected(check: &Check) -> String {
    match &check.kind {
        CheckKind::Capture(capture) => expected_capture(capture),
        CheckKind::Question(question) => question::expected(question),
        CheckKind::Http(http) => expected_http(http),
        CheckKind::Database(database) => expected_database(database),
        CheckKind::Tcp(tcp) => expected_tcp(tcp),
    }
}

fn expected_capture(check: &CaptureCheck) -> String {
    let (one, other) = &check.between;
    let what = match (check.pattern.protocol, check.pattern.leak) {
        (Some(protocol), Some(leak)) => format!("a {} in {protocol}", words(leak.as_str())),
        (None, Some(leak)) => format!("a {}", words(leak.as_str())),
        (Some(protocol), None) => format!("{protocol} in clear"),
        (None, None) => "traffic".to_owned(),
    };
    if check.wanted {
        format!("a capture of yours shows {what} between {one} and {other}")
    } else {
        format!("a capture of yours sees {one} and {other} talk, and shows no {what}")
    }
}

fn words(name: &str) -> String {
    name.replace('-', " ")
}

fn judge_capture(check: &CaptureCheck, seen: &CaptureEvidence, loot: &[Loot]) -> Judgement {
    let (one, other) = &check.between;
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_capture(check), found);
    let looted = loot
        .iter()
        .filter(|loot| loot.between(&check.between) && loot.matches(&check.pattern));
    let held: Vec<String> = looted
        .map(Loot::describe)
        .chain(
            seen.between(one.as_str(), other.as_str())
                .filter(|message| check.pattern.leak.is_none() && holds(message, &check.pattern))
                .map(describe),
        )
        .take(LINES)
        .collect();
    let crossed = seen.between(one.as_str(), other.as_str()).count();
    if !held.is_empty() {
        let (verdict, finding) = if check.wanted {
            (Verdict::Passed, Finding::Expected)
        } else {
            (Verdict::Failed, Finding::Held)
        };
        return say(verdict, finding, format!("seen, between {one} and {other}")).with_evidence(held);
    }
    if seen.points.is_empty() {
        return say(
            Verdict::Undetermined,
            Finding::NoCapture,
            "you have not captured anything yet".to_owned(),
        );
    }
    let places: Vec<&str> = seen.points.iter().map(|point| point.pod.as_str()).collect();
    let places = places.join(", ");
    match (check.wanted, crossed) {
        (true, 0) => say(
            Verdict::Failed,
            Finding::NoTraffic,
            format!("nothing between {one} and {other}; you listened in {places}"),
        ),
        (true, _) => say(
            Verdict::Failed,
            Finding::NotHeld,
            format!("{crossed} messages between {one} and {other}, none of them that"),
        ),
        (false, 0) => say(
            Verdict::Undetermined,
            Finding::NoTraffic,
            format!("nothing at all between {one} and {other}, so its absence shows nothing"),
        ),
        (false, _) if seen.dropped > 0 => say(
            Verdict::Undetermined,
            Finding::NotMeasured,
            format!(
                "the capture dropped {} packets: it may have been in one of them",
                seen.dropped
            ),
        ),
        (false, _) => say(
            Verdict::Passed,
            Finding::Expected,
            format!("{crossed} messages between {one} and {other}, none of them that"),
        )
        .with_evidence(seen.between(one.as_str(), other.as_str()).map(describe).take(LINES)),
    }
}

fn holds(message: &Message, pattern: &Pattern) -> bool {
    pattern.protocol.is_none_or(|protocol| message.protocol == protocol)
        && pattern
            .leak
            .is_none_or(|kind| message.leaks.iter().any(|leak| leak.kind == kind))
}

fn describe(message: &Message) -> String {
    let frame = message.frames.first().copied().unwrap_or_default();
    crate::text::one_line(&format!("packet {frame}, {}: {}", message.route(), message.summary))
}

fn expected_http(check: &HttpCheck) -> String {
    let (method, path, status) = (&check.method, &check.path, check.status);
    let who = if check.seen == Seen::ByStudent { "you, in " } else { "" };
    format!(
        "{who}{}: {method} {path} at {} is answered {status}",
        check.from, check.to
    )
}

/// The student's own calls: those of the caller's pods that carry no probe's id.
fn own(calls: &Calls) -> impl Iterator<Item = &Call> + Clone {
    calls
        .calls
        .iter()
        .filter(|call| call.probe.is_none() && calls.from.contains(&call.caller_ip))
}

fn judge_calls(check: &HttpCheck, calls: &Calls) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_http(check), found);
    if let Some(missing) = absent(calls, check.from.as_str(), check.to.as_str()) {
        return say(Verdict::Undetermined, Finding::NoWorkload, missing);
    }
    let path = |call: &Call| call.path.split('?').next().unwrap_or_default() == check.path;
    let asked = own(calls).filter(|call| path(call) && call.method == check.method);
    let right: Vec<&Call> = asked.clone().filter(|call| call.status == check.status).collect();
    if let Some(last) = right.last() {
        let found = format!("{} answered {} to {}", check.to, last.status, check.from);
        return say(Verdict::Passed, Finding::Expected, found)
            .with_evidence(right.iter().rev().take(LINES).map(|call| call.describe()));
    }
    if let Some(last) = asked.clone().last() {
        let found = format!("{} answered {} to your last call", check.to, last.status);
        return say(Verdict::Failed, Finding::WrongStatus, found).with_evidence([last.describe()]);
    }
    match own(calls).last() {
        Some(other) => {
            let found = format!("{} was called, but with {} {}", check.to, other.method, other.path);
            say(Verdict::Failed, Finding::NoCall, crate::text::one_line(&found)).with_evidence([other.describe()])
        }
        None => say(
            Verdict::Undetermined,
            Finding::NoCall,
            format!("{} has not called {} yet", check.from, check.to),
        ),
    }
}

fn absent(calls: &Calls, from: &str, to: &str) -> Option<String> {
    let missing = if calls.from.is_empty() {
        from
    } else if calls.callees == 0 {
        to
    } else {
        return None;
    };
    Some(format!("no pod of {missing} is running"))
}

fn judge_http(check: &HttpCheck, probe: &ProbeResult) -> Judgement {
    let say = |verdict, finding| {
        Judgement::new(verdict, finding, expected_http(check), probe.outcome.to_string())
            .with_evidence([evidence_of(probe)])
    };
    match &probe.outcome {
        ProbeOutcome::Answered { status, .. } if *status == check.status => say(Verdict::Passed, Finding::Expected),
        outcome => {
            let finding = finding(outcome);
            say(verdict_of(finding), finding)
        }
    }
}

fn evidence_of(probe: &ProbeResult) -> String {
    let line = format!(
        "probe {} in {}: {} {}",
        probe.id, probe.pod, probe.target, probe.outcome
    );
    crate::text::one_line(&line)
}

fn finding(outcome: &ProbeOutcome) -> Finding {
    match outcome {
        ProbeOutcome::Answered { .. } => Finding::WrongStatus,
        ProbeOutcome::Connected | ProbeOutcome::Resolved { .. } => Finding::Allowed,
        ProbeOutcome::NoSuchHost | ProbeOutcome::DnsFailed { .. } => Finding::Unresolved,
        ProbeOutcome::Refused | ProbeOutcome::Reset { .. } => Finding::Refused,
        ProbeOutcome::TimedOut { .. } | ProbeOutcome::Unreachable { .. } => Finding::TimedOut,
        ProbeOutcome::ProtocolError { .. } => Finding::WrongStatus,
        ProbeOutcome::TlsFailed { .. } => Finding::NotTls,
        ProbeOutcome::TlsOpen => Finding::Allowed,
        ProbeOutcome::TlsSilent => Finding::TimedOut,
        ProbeOutcome::TlsRefused { .. } => Finding::TlsRefused,
        ProbeOutcome::Untrusted { .. } => Finding::Untrusted,
        ProbeOutcome::NotRun { .. } => Finding::NotMeasured,
    }
}

fn verdict_of(finding: Finding) -> Verdict {
    if finding == Finding::NotMeasured {
        Verdict::Undetermined
    } else {
        Verdict::Failed
    }
}

fn expected_database(check: &DatabaseCheck) -> String {
    let (from, to) = (&check.from, &check.to);
    match &check.statement {
        Some(statement) => format!("you, in {from}: log in to {to} and run `{statement} …`"),
        None => format!("you, in {from}: log in to {to}"),
    }
}

fn judge_database(check: &DatabaseCheck, calls: &Calls) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_database(check), found);
    if let Some(missing) = absent(calls, check.from.as_str(), check.to.as_str()) {
        return say(Verdict::Undetermined, Finding::NoWorkload, missing);
    }
    let logins = own(calls).filter(|call| call.method == "login");
    let Some(login) = logins.clone().filter(|call| call.status == 200).last() else {
        return match logins.last() {
            Some(refused) => say(
                Verdict::Failed,
                Finding::WrongStatus,
                format!("{} refused your last login", check.to),
            )
            .with_evidence([refused.describe()]),
            None => say(
                Verdict::Undetermined,
                Finding::NoCall,
                format!("{} has not tried to log in to {} yet", check.from, check.to),
            ),
        };
    };
    let mut proof = vec![login.describe()];
    if let Some(statement) = &check.statement {
        let asked = own(calls).filter(|call| call.method == "query" && call.status == 200);
        match asked.filter(|call| begins(&call.path, statement)).last() {
            Some(query) => proof.push(query.describe()),
            None => {
                return say(
                    Verdict::Failed,
                    Finding::NoCall,
                    format!("logged in, but `{statement} …` did not run"),
                )
                .with_evidence(proof);
            }
        }
    }
    say(
        Verdict::Passed,
        Finding::Expected,
        format!("{} let {} in", check.to, check.from),
    )
    .with_evidence(proof)
}

/// Whether a statement begins with these words, spaces and case ignored.
fn begins(text: &str, words: &str) -> bool {
    let mut text = text.split_whitespace();
    words
        .split_whitespace()
        .all(|word| text.next().is_some_and(|found| found.eq_ignore_ascii_case(word)))
}

fn expected_tcp(check: &TcpCheck) -> String {
    let TcpCheck { from, to, port, .. } = check;
    let what = match check.expect {
        Reach::Allowed => "opens",
        Reach::Blocked => "does not open",
        Reach::Refused => "is refused",
        Reach::TimedOut => "gets no answer",
    };
    match &check.control {
        Some(control) => format!("a connection from {from} to {to}:{port} {what}, while one from {control} opens"),
        None => format!("a connection from {from} to {to}:{port} {what}"),
    }
}

fn judge_tcp(check: &TcpCheck, probes: &Probes) -> Judgement {
    let outcome = &probes.probe.outcome;
    let proof = std::iter::once(&probes.probe).chain(&probes.control).map(evidence_of);
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_tcp(check), found);
    let seen = finding(outcome);
    let judgement = if seen == Finding::NotMeasured {
        say(Verdict::Undetermined, seen, outcome.to_string())
    } else if matches(check.expect, seen) {
        match (check.expect, &probes.control) {
            (Reach::Allowed, _) => say(Verdict::Passed, Finding::Expected, outcome.to_string()),
            (_, Some(control)) if control.outcome.reached() => {
                say(Verdict::Passed, Finding::Expected, outcome.to_string())
            }
            (_, Some(control)) => say(
                Verdict::Undetermined,
                Finding::NotMeasured,
                format!(
                    "{outcome}; but the control says {} as well: is {} alive?",
                    control.outcome, check.to
                ),
            ),
            (_, None) => say(
                Verdict::Undetermined,
                Finding::NotMeasured,
                format!("{outcome}; without a control that shows nothing"),
            ),
        }
    } else {
        say(Verdict::Failed, seen, outcome.to_string())
    };
    judgement.with_evidence(proof)
}

fn matches(expect: Reach, seen: Finding) -> bool {
    match expect {
        Reach::Allowed => seen == Finding::Allowed,
        Reach::Blocked => matches!(seen, Finding::Refused | Finding::TimedOut),
        Reach::Refused => seen == Finding::Refused,
        Reach::TimedOut => seen == Finding::TimedOut,
    }
}
