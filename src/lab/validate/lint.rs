//! Rules for those who write labs: what a student could live with, and a lab that ships must not have.

use super::Validator;
use crate::lab::{
    model::{Check, CheckKind, PostureCheck, Property, Reach, Resolution, Seen},
    raw::{RawLab, RawStep, Spanned, Text},
};

/// What only the linter knows of a lab's surroundings.
#[derive(Clone, Copy)]
pub struct Lint<'a> {
    /// Whether there is a lab of this id.
    pub lab: &'a dyn Fn(&str) -> bool,
    /// Whether there is a file of this path beside the lab, of whatever kind.
    pub file: &'a dyn Fn(&str) -> bool,
    /// The name of the lab's directory, where it has one of its own.
    pub directory: Option<&'a str>,
}

impl Validator<'_> {
    pub(super) fn lint_lab(&mut self, raw: &RawLab) {
        let Some(lint) = self.lint else { return };
        let name = &raw.metadata.name;
        if let Some(directory) = lint.directory
            && directory != name.value
        {
            self.places
                .report(name, "the lab is called otherwise than its directory")
                .expected(format!("`{}`", crate::text::one_line(directory)))
                .hint("labs are found by the names of their directories")
                .rule("other-name");
        }
        self.lint_made(&raw.spec);
        for prerequisite in &raw.metadata.prerequisites {
            let id = prerequisite.value.trim();
            if super::is_name(id) && !(lint.lab)(id) {
                self.places
                    .report(prerequisite, format!("there is no lab `{id}`"))
                    .expected("the id of a lab, or a few words")
                    .rule("unknown-lab");
            }
        }
        let files: Vec<String> = self.among.files.keys().cloned().collect();
        for file in files.iter().filter(|file| !self.used.contains(*file)) {
            self.places
                .beside(file, "nothing in the lab uses this file".to_owned())
                .hint("name it in `topology` or in an action, or delete it")
                .rule("unused-file")
                .warning();
        }
    }

    pub(super) fn lint_step(&mut self, raw: &RawStep, checks: &[Option<Check>]) {
        if self.lint.is_none() {
            return;
        }
        if raw.solution.is_empty() {
            self.places
                .report(&raw.id, "the step has no solution")
                .expected("`solution`: actions that pass every check of the step")
                .hint("without it nobody knows whether the step can be passed")
                .rule("no-solution");
        }
        if raw.wrong.len() < 2 {
            let count = raw.wrong.len();
            self.places
                .report(&raw.id, format!("the step has {count} wrong attempts"))
                .expected("`wrong`: at least two plausible attempts, each with the check that it fails")
                .hint("they show that the checks tell right from wrong")
                .rule("few-attempts");
        }
        for hint in &raw.hints {
            if let Some(cost) = &hint.value.cost
                && cost.value > raw.points.value
                && raw.points.at.line > 0
            {
                self.places
                    .report(cost, "the hint costs more than the step gives")
                    .expected(format!("at most {}", raw.points.value))
                    .rule("dear-hint")
                    .warning();
            }
        }
        for (raw_check, check) in raw.checks.value.iter().zip(checks) {
            if let Some(check) = check {
                self.lint_check(raw, &raw_check.value.name, check);
            }
        }
    }

    fn lint_check(&mut self, step: &RawStep, name: &Text, check: &Check) {
        if let Some(why) = self.without_control(step, &check.kind) {
            self.places
                .report(name, why)
                .expected("a positive control: something that works in the same moment")
                .hint("else the check is undetermined for ever: an absence alone proves nothing")
                .rule("no-control");
        }
        // A step that needs another one is not looked at before that one is passed.
        if step.needs.is_empty() && self.open_network && true_untouched(&check.kind) {
            self.places
                .report(name, "this is true before the student did anything")
                .expected("something that the student brings about")
                .hint("use `seen: by-student`, a question or a prediction; or put the check into a step that `needs` another")
                .rule("true-untouched");
        }
    }

    /// Why nothing could show that a check which wants an absence looks at something alive.
    fn without_control(&self, step: &RawStep, kind: &CheckKind) -> Option<String> {
        match kind {
            CheckKind::Capture(capture) if !capture.wanted => {
                let (one, other) = &capture.between;
                let pair = |from: &Spanned<String>, to: &Spanned<String>| {
                    [(one, other), (other, one)]
                        .iter()
                        .any(|(a, b)| from.value == a.as_str() && to.value == b.as_str())
                };
                let declared = self.edges.iter().any(|(from, to)| pair(from, to));
                // What the student does from one of the two may be the traffic.
                let acts = step.solution.iter().filter_map(|action| action.value.exec.as_ref());
                let acts = acts
                    .map(|exec| &exec.source.value)
                    .any(|name| name == one.as_str() || name == other.as_str());
                (!declared && !acts).then(|| {
                    format!("nobody is known to call between `{one}` and `{other}`, so a capture there may stay empty")
                })
            }
            CheckKind::Tcp(tcp) if tcp.expect != Reach::Allowed && tcp.control.as_ref() == Some(&tcp.from) => {
                Some(format!(
                    "`{}` is to be let through as the control, and not to be let through",
                    tcp.from
                ))
            }
            _ => None,
        }
    }
}

/// Whether a check holds on a network without policies, whatever the student does.
fn true_untouched(kind: &CheckKind) -> bool {
    match kind {
        CheckKind::Tcp(tcp) => tcp.from.workload().is_some() && tcp.expect == Reach::Allowed,
        CheckKind::Http(http) => {
            let expect = &http.expect;
            let succeeds = expect.outcome.is_none_or(|outcome| outcome == Reach::Allowed)
                && expect.status.iter().all(|status| (200..300).contains(status));
            // A pod by its name or its labels may be the student's own.
            http.seen == Seen::ByProbe && http.from.workload().is_some() && !http.secure && succeeds
        }
        CheckKind::Dns(dns) => dns.from.workload().is_some() && dns.expect == Resolution::Resolves,
        CheckKind::Object(object) => object.max == Some(0) && !object.changed,
        CheckKind::File(file) => file.absent,
        CheckKind::Posture(PostureCheck::Cell { wanted, .. }) => {
            wanted.iter().all(|(property, wanted)| match property {
                Property::Reachable | Property::Readable => *wanted,
                Property::ServerAuthenticated | Property::ClientAuthenticated | Property::Authorised => !wanted,
            })
        }
        _ => false,
    }
}
