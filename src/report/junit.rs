//! The checks as JUnit XML, which CI systems read: a suite for each step, a case for each check.
//!
//! A check of a step that is still locked, or not possible on its ground, is skipped; one that has not passed is a failure.

use std::fmt::Write;

use super::{CheckPart, Report, StepPart};

/// Text that XML shows as it is, also within an attribute. XML 1.0 §2.2 has no way to write some characters.
pub fn escape(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let text: String = crate::text::one_line(text)
        .chars()
        .map(|c| if allowed(c) { c } else { '\u{fffd}' })
        .collect();
    crate::posture::html::escape(&text)
}

/// The whole document.
pub fn junit(report: &Report) -> String {
    let progress = &report.progress;
    let checks = || {
        progress
            .steps
            .iter()
            .flat_map(|step| step.checks.iter().map(move |check| (step, check)))
    };
    let total = |what: Standing| checks().filter(|(step, check)| of(step, check) == what).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ztlab {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\" time=\"{}\">\n",
        escape(&progress.lab.id),
        checks().count(),
        total(Standing::Failed),
        total(Standing::Skipped),
        progress.spent_seconds
    );
    for step in &progress.steps {
        suite(&progress.lab.id, step, &progress.began, &mut out);
    }
    out.push_str("</testsuites>\n");
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Passed,
    Failed,
    Skipped,
}

fn of(step: &StepPart, check: &CheckPart) -> Standing {
    match (check.passed, step.state.as_str()) {
        (true, _) => Standing::Passed,
        (false, "locked" | "impossible") => Standing::Skipped,
        (false, _) => Standing::Failed,
    }
}

fn suite(lab: &str, step: &StepPart, began: &str, out: &mut String) {
    let count = |what: Standing| step.checks.iter().filter(|check| of(step, check) == what).count();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{}\" id=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\" timestamp=\"{}\">",
        escape(&step.title),
        escape(&step.id),
        step.checks.len(),
        count(Standing::Failed),
        count(Standing::Skipped),
        escape(began)
    );
    for check in &step.checks {
        let class = format!("{}.{}", escape(lab), escape(&step.id));
        let _ = write!(
            out,
            "    <testcase classname=\"{class}\" name=\"{}\"",
            escape(&check.name)
        );
        match of(step, check) {
            Standing::Passed if check.evidence.is_empty() => out.push_str("/>\n"),
            Standing::Passed => {
                let evidence: Vec<String> = check.evidence.iter().map(|line| escape(line)).collect();
                let _ = writeln!(
                    out,
                    ">\n      <system-out>{}</system-out>\n    </testcase>",
                    evidence.join("\n")
                );
            }
            Standing::Failed => {
                let why = escape(&check.why);
                let _ = writeln!(
                    out,
                    ">\n      <failure message=\"not passed\">{why}</failure>\n    </testcase>"
                );
            }
            Standing::Skipped => {
                let why = step.impossible.as_deref().map(escape);
                let why = why.unwrap_or_else(|| "steps that this one needs are not passed yet".into());
                let _ = writeln!(out, ">\n      <skipped message=\"{why}\"/>\n    </testcase>");
            }
        }
    }
    out.push_str("  </testsuite>\n");
}
