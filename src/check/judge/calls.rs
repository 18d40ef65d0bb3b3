//! The student's own calls, as the callees' access logs tell of them.

use std::time::Duration;

use super::LINES;
use crate::{
    check::{Call, Calls, Refused},
    lab::{DatabaseCheck, HttpCheck, Reach},
    verdict::{Finding, Judgement, Verdict},
};

/// How long before or after a refusal the control must have been let in: an application calls more often than that.
const MOMENT: Duration = Duration::from_secs(60);

pub(super) fn expected_http(check: &HttpCheck) -> String {
    if wants_refusal(check) {
        let reason = check.expect.reason.as_ref();
        let reason = reason.map_or_else(String::new, |rule| format!(", for a reason that {rule}"));
        return format!(
            "the log of {}: {} is refused in the TLS handshake{reason}",
            check.to, check.from
        );
    }
    let (method, path) = (&check.method, &check.path);
    let caller = check.expect.caller.as_ref();
    let caller = caller.map_or_else(String::new, |rule| format!(", and the log's caller {rule}"));
    format!(
        "you, in {}: {method} {path} at {} is answered {}{caller}",
        check.from,
        check.to,
        statuses(&check.expect.status)
    )
}

/// `401 or 403`.
pub(super) fn statuses(all: &[u16]) -> String {
    let all: Vec<String> = all.iter().map(u16::to_string).collect();
    all.join(" or ")
}

/// The student's own calls: those of the caller's pods that carry no probe's id.
fn own(calls: &Calls) -> impl Iterator<Item = &Call> + Clone {
    calls
        .calls
        .iter()
        .filter(|call| call.probe.is_none() && calls.from.contains(&call.caller_ip))
}

fn wants_refusal(check: &HttpCheck) -> bool {
    check.expect.outcome == Some(Reach::TlsRefused)
}

/// A handshake of the student's that failed, in the callee's own words. That it fails proves something only of a callee
/// that lets in somebody else in the same moment.
fn judge_refused(check: &HttpCheck, calls: &Calls) -> Judgement {
    let say = |verdict, finding, found: String| {
        Judgement::new(verdict, finding, expected_http(check), crate::text::one_line(&found))
    };
    let tried = calls
        .refused
        .iter()
        .filter(|refused| !refused.by_probe() && calls.from.contains(&refused.caller_ip));
    let fits = |refused: &&Refused| {
        let rule = check.expect.reason.as_ref();
        rule.is_none_or(|rule| rule.meets(&refused.reason))
    };
    let let_in = |refused: &Refused| {
        let mut calls = calls
            .calls
            .iter()
            .rev()
            .filter(|call| calls.control.contains(&call.caller_ip));
        calls.find(|call| refused.near(call, MOMENT))
    };
    let (from, to) = (&check.from, &check.to);
    let right = || tried.clone().filter(fits).rev();
    if let Some((refused, control)) = right().find_map(|refused| Some((refused, let_in(refused)?))) {
        return say(
            Verdict::Passed,
            Finding::Expected,
            format!("{to} refused {from}: {}", refused.reason),
        )
        .with_evidence([refused.describe(), format!("let in beside it: {}", control.describe())]);
    }
    if let Some(refused) = right().next() {
        let control = check.control.as_ref().and_then(|control| control.from.as_ref());
        let control = control.map_or_else(|| "nobody".to_owned(), |control| format!("no call of {control}"));
        let found = format!("{to} refused {from}, but let in {control} in the same minute: does it let in anybody?");
        return say(Verdict::Undetermined, Finding::NoControl, found).with_evidence([refused.describe()]);
    }
    if let Some(refused) = tried.clone().next_back() {
        let found = format!("{to} refused {from}, but for another reason: {}", refused.reason);
        return say(Verdict::Failed, Finding::OtherText, found).with_evidence([refused.describe()]);
    }
    let itself = check.control.as_ref().and_then(|control| control.from.as_ref()) == Some(from);
    match own(calls).last() {
        // It is to be let in at one time and refused at another.
        Some(call) if itself => say(
            Verdict::Undetermined,
            Finding::NoCall,
            format!("{to} lets {from} in so far"),
        )
        .with_evidence([call.describe()]),
        Some(call) => {
            say(Verdict::Failed, Finding::Allowed, format!("{to} let {from} in")).with_evidence([call.describe()])
        }
        None => say(
            Verdict::Undetermined,
            Finding::NoCall,
            format!("{from} has not tried to call {to} yet"),
        ),
    }
}

pub(super) fn judge_http(check: &HttpCheck, calls: &Calls) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_http(check), found);
    if let Some(missing) = absent(calls, &check.from.to_string(), &check.to.to_string()) {
        return say(Verdict::Undetermined, Finding::NoWorkload, missing);
    }
    if wants_refusal(check) {
        return judge_refused(check, calls);
    }
    let path = |call: &Call| call.path.split('?').next().unwrap_or_default() == check.path;
    let asked = own(calls).filter(|call| path(call) && call.method == check.method);
    let status = |call: &Call| check.expect.status.contains(&call.status);
    let caller = |call: &Call| check.expect.caller.as_ref().is_none_or(|rule| rule.meets(&call.caller));
    let right: Vec<&Call> = asked.clone().filter(|call| status(call) && caller(call)).collect();
    if let Some(last) = right.last() {
        let found = format!("{} answered {} to {}", check.to, last.status, check.from);
        return say(Verdict::Passed, Finding::Expected, found)
            .with_evidence(right.iter().rev().take(LINES).map(|call| call.describe()));
    }
    if let Some(last) = asked.clone().filter(|call| status(call)).last() {
        let found = format!("{} took the caller for `{}`", check.to, last.caller);
        return say(Verdict::Failed, Finding::OtherText, crate::text::one_line(&found))
            .with_evidence([last.describe()]);
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

pub(super) fn expected_database(check: &DatabaseCheck) -> String {
    let (from, to) = (&check.from, &check.to);
    match &check.statement {
        _ if check.refused => format!("you, in {from}: {to} refuses your login"),
        Some(statement) => format!("you, in {from}: log in to {to} and run `{statement} …`"),
        None => format!("you, in {from}: log in to {to}"),
    }
}

pub(super) fn judge_database(check: &DatabaseCheck, calls: &Calls) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_database(check), found);
    if let Some(missing) = absent(calls, &check.from.to_string(), check.to.as_str()) {
        return say(Verdict::Undetermined, Finding::NoWorkload, missing);
    }
    let logins = own(calls).filter(|call| call.method == "login");
    let let_in = logins.clone().filter(|call| call.status == 200).last();
    let refused = logins.clone().filter(|call| call.status != 200).last();
    if logins.clone().next().is_none() {
        return say(
            Verdict::Undetermined,
            Finding::NoCall,
            format!("{} has not tried to log in to {} yet", check.from, check.to),
        );
    }
    let login = match (check.refused, let_in, refused) {
        (true, _, Some(refused)) => {
            return say(
                Verdict::Passed,
                Finding::Expected,
                format!("{} refused the login", check.to),
            )
            .with_evidence([refused.describe()]);
        }
        (true, Some(login), None) => {
            return say(Verdict::Failed, Finding::Allowed, format!("{} let you in", check.to))
                .with_evidence([login.describe()]);
        }
        (false, Some(login), _) => login,
        (_, None, last) => {
            return say(
                Verdict::Failed,
                Finding::WrongStatus,
                format!("{} refused your last login", check.to),
            )
            .with_evidence(last.map(Call::describe));
        }
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
