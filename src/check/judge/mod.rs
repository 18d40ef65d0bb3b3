//! From evidence to judgement.

mod calls;
mod capture;
mod certificate;
mod object;
mod posture;
mod reach;
mod tls;

pub(super) use self::posture::measured;
use super::{Evidence, ExecFound, FileFound, question};
use crate::{
    evidence::ProbeResult,
    lab::{Check, CheckKind, ExecCheck, Exit, FileCheck, Seen},
    verdict::{Finding, Judgement, Verdict},
};

/// How many lines of evidence a judgement carries.
const LINES: usize = 5;
/// How much of a found text is shown, in columns.
const SHOWN: usize = 80;

/// Judges a check by its evidence.
pub fn judge(check: &Check, evidence: &Evidence) -> Judgement {
    match (&check.kind, evidence) {
        (CheckKind::Capture(capture), Evidence::Capture { seen, loot }) => capture::judge(capture, seen, loot),
        (CheckKind::Flow(flow), Evidence::Flow { seen, probes }) => capture::judge_flow(flow, seen, probes.as_deref()),
        (CheckKind::Question(question), Evidence::Answer { given, loot, posture }) => {
            question::judge(question, given.as_deref(), loot, posture.as_ref())
        }
        (CheckKind::Http(http), Evidence::Calls(calls)) => calls::judge_http(http, calls),
        (CheckKind::Http(http), Evidence::Probes(probes)) => reach::judge_http(http, probes),
        (CheckKind::Database(database), Evidence::Calls(calls)) => calls::judge_database(database, calls),
        (CheckKind::Tcp(tcp), Evidence::Probes(probes)) => reach::judge_tcp(tcp, probes),
        (CheckKind::Dns(dns), Evidence::Probes(probes)) => reach::judge_dns(dns, probes),
        (CheckKind::Tls(tls), Evidence::Probes(probes)) => tls::judge(tls, probes),
        (CheckKind::Object(object), Evidence::Objects(objects)) => object::judge(object, objects),
        (CheckKind::Certificate(certificate), Evidence::Certificate(found)) => certificate::judge(certificate, found),
        (CheckKind::File(file), Evidence::File(found)) => judge_file(file, found),
        (CheckKind::Exec(exec), Evidence::Exec(found)) => judge_exec(exec, found),
        (CheckKind::Posture(wanted), Evidence::Posture(matrix)) => posture::judge(wanted, matrix),
        (_, Evidence::NoPod(name)) => Judgement::new(
            Verdict::Undetermined,
            Finding::NoWorkload,
            expected(check),
            format!("no pod of {name} is running"),
        ),
        (_, Evidence::Unavailable(reason)) => Judgement::new(
            Verdict::Undetermined,
            Finding::NotMeasured,
            expected(check),
            crate::text::one_line(reason),
        ),
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
        CheckKind::Capture(capture) => capture::expected(capture),
        CheckKind::Flow(flow) => capture::expected_flow(flow),
        CheckKind::Question(question) => question::expected(question),
        CheckKind::Http(http) if http.seen == Seen::ByStudent => calls::expected_http(http),
        CheckKind::Http(http) => reach::expected_http(http),
        CheckKind::Database(database) => calls::expected_database(database),
        CheckKind::Tcp(tcp) => reach::expected_tcp(tcp),
        CheckKind::Dns(dns) => reach::expected_dns(dns),
        CheckKind::Tls(tls) => tls::expected(tls),
        CheckKind::Object(object) => object::expected(object),
        CheckKind::Certificate(certificate) => certificate::expected(certificate),
        CheckKind::File(file) => expected_file(file),
        CheckKind::Exec(exec) => expected_exec(exec),
        CheckKind::Posture(wanted) => posture::expected(wanted),
    }
}

fn words(name: &str) -> String {
    name.replace('-', " ")
}

/// Found text on one line, cut.
fn shown(text: &str) -> String {
    crate::text::cut(&crate::text::one_line(text.trim()), SHOWN)
}

fn evidence_of(probe: &ProbeResult) -> String {
    let line = format!(
        "probe {} in {}: {} {}",
        probe.id, probe.pod, probe.target, probe.outcome
    );
    crate::text::one_line(&line)
}

fn expected_file(check: &FileCheck) -> String {
    let path = &check.path;
    if check.absent {
        return format!("there is no file {path} in your work directory");
    }
    let mut parts: Vec<String> = check.text.iter().map(|rule| format!("its text {rule}")).collect();
    parts.extend(check.fields.iter().map(object::expected_field));
    if parts.is_empty() {
        return format!("there is a file {path} in your work directory");
    }
    format!("the file {path} in your work directory: {}", parts.join(", "))
}

fn judge_file(check: &FileCheck, found: &FileFound) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_file(check), found);
    let text = match (found, check.absent) {
        (FileFound::Missing, true) => return say(Verdict::Passed, Finding::Expected, "there is none".to_owned()),
        (FileFound::Missing, false) => {
            return say(
                Verdict::Undetermined,
                Finding::NoFile,
                "there is no such file yet".to_owned(),
            );
        }
        (FileFound::Broken(why), false) => return say(Verdict::Failed, Finding::OtherText, crate::text::one_line(why)),
        (FileFound::There(_) | FileFound::Broken(_), true) => {
            return say(Verdict::Failed, Finding::OtherText, "the file is there".to_owned());
        }
        (FileFound::There(text), false) => text,
    };
    if let Some(rule) = check.text.as_ref().filter(|rule| !rule.meets(text)) {
        let found = format!("its {} bytes do not: {rule}", text.len());
        return say(Verdict::Failed, Finding::OtherText, crate::text::one_line(&found));
    }
    if !check.fields.is_empty() {
        let value = match object::read_yaml(text) {
            Ok(value) => value,
            Err(why) => {
                return say(
                    Verdict::Failed,
                    Finding::OtherText,
                    format!("it is no YAML or JSON: {why}"),
                );
            }
        };
        if let Some(difference) = object::differs(&check.fields, &value) {
            return say(Verdict::Failed, Finding::OtherText, difference);
        }
    }
    say(
        Verdict::Passed,
        Finding::Expected,
        "it is there, and holds that".to_owned(),
    )
    .with_evidence([format!("{}: {} bytes", check.path, text.len())])
}

fn expected_exec(check: &ExecCheck) -> String {
    let exit = check.exit.map(|exit| match exit {
        Exit::Code(code) => format!("ends with {code}"),
        Exit::NonZero => "does not end with 0".to_owned(),
    });
    let output = check.output.as_ref().map(|rule| format!("prints what {rule}"));
    let parts: Vec<String> = exit.into_iter().chain(output).collect();
    let command = crate::text::one_line(&check.run.join(" "));
    format!("`{command}` in {} {}", check.source, parts.join(" and "))
}

fn judge_exec(check: &ExecCheck, found: &ExecFound) -> Judgement {
    let say = |verdict, finding, said: String| {
        Judgement::new(verdict, finding, expected_exec(check), said).with_evidence([crate::text::one_line(&format!(
            "`{}` in {} ended with {}: {}",
            found.command,
            found.pod,
            found.code,
            shown(&found.output)
        ))])
    };
    let exit = check.exit.is_none_or(|exit| match exit {
        Exit::Code(code) => found.code == code,
        Exit::NonZero => found.code != 0,
    });
    if !exit {
        let said = format!("it ended with {}: {}", found.code, shown(&found.output));
        return say(Verdict::Failed, Finding::OtherExit, said);
    }
    if check.output.as_ref().is_some_and(|rule| !rule.meets(&found.output)) {
        let said = if found.output.trim().is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("it printed {}", shown(&found.output))
        };
        return say(Verdict::Failed, Finding::OtherText, said);
    }
    say(
        Verdict::Passed,
        Finding::Expected,
        format!("it ended with {}", found.code),
    )
}
