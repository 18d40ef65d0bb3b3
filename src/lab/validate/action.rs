//! What ztlab does to solve a step or to try what does not.

use std::time::Duration;

use super::Validator;
use crate::{
    lab::{
        model::{Action, AnswerValue, Attempt, Until},
        raw::{RawAction, RawAnswerAction, RawAttempt, RawCaptureAction, RawCheck, RawExec, RawStep, Spanned, Text},
    },
    score::Points,
};

/// The kinds of action a lab can have, as they are written.
const KINDS: &str = "exactly one of `capture`, `answer`, `exec`, `apply`, `delete`, `label`, `patch`, `scale`, \
                     `restart`, `runPod`, `ca`, `certificate`, `secret`, `configmap`, `file` and `waitFor`";

/// The longest a capture of a solution or an attempt may run.
const LONGEST: Duration = Duration::from_secs(60);

impl Validator<'_> {
    pub(super) fn attempt(&mut self, raw: &RawAttempt, step: &RawStep) -> Option<Attempt> {
        let checks = &step.checks.value;
        let known: Vec<&str> = checks.iter().map(|check| check.value.name.value.as_str()).collect();
        let actions: Vec<_> = raw.actions.iter().map(|action| self.action(action, checks)).collect();
        let fails = self.check_named(&raw.fails, &known);
        let scores = raw.scores.as_ref().map_or(Some(0), |scores| {
            // Points that are missing or no number were reported.
            let most = if step.points.at.line > 0 {
                step.points.value
            } else {
                100
            };
            self.within(scores, 0, most, "points of this step")
        });
        Some(Attempt {
            actions: actions.into_iter().collect::<Option<_>>()?,
            fails: fails?,
            scores: Points(scores?),
        })
    }

    pub(super) fn action(&mut self, raw: &Spanned<RawAction>, checks: &[Spanned<RawCheck>]) -> Option<Action> {
        let action = &raw.value;
        let mut kinds: Vec<Option<Action>> = [
            action.capture.as_ref().map(|capture| self.capture_action(capture)),
            action.answer.as_ref().map(|answer| self.answer_action(answer, checks)),
            action.exec.as_ref().map(|exec| self.exec_action(exec)),
            action.wait_for.as_ref().map(|wait| self.wait_action(wait, checks)),
        ]
        .into_iter()
        .flatten()
        .chain(self.deeds(action))
        .collect();
        if kinds.len() != 1 {
            self.places
                .report(raw, format!("{} things are to be done at once", kinds.len()))
                .expected(KINDS)
                .rule("action-kind");
        }
        kinds.pop()?
    }

    fn exec_action(&mut self, exec: &RawExec) -> Option<Action> {
        let namespace = exec.namespace.as_ref().map(|name| self.object_name(name));
        let source = self.source_in(&exec.source, exec.namespace.is_some());
        self.argv(&exec.run);
        let run = exec.run.value.iter().map(|word| self.filled(word, false)).collect();
        let may_fail = exec
            .exit
            .as_ref()
            .map_or(Some(false), |exit| self.named(exit, &[("0", false), ("any", true)]));
        let save = exec.save.as_ref().map(|path| self.work_path(path));
        let within = exec
            .within
            .as_ref()
            .map_or(Some(Duration::ZERO), |time| self.duration(time));
        Some(Action::Exec {
            source: source?,
            namespace: match namespace {
                Some(namespace) => Some(namespace?),
                None => None,
            },
            run,
            may_fail: may_fail?,
            save: match save {
                Some(path) => Some(path?),
                None => None,
            },
            within: within?.min(LONGEST),
        })
    }

    fn capture_action(&mut self, raw: &Spanned<RawCaptureAction>) -> Option<Action> {
        let workload = self.workload(&raw.value.pod);
        let filter = raw.value.filter.as_ref().map(|filter| self.line(filter));
        let until = match (&raw.value.duration, &raw.value.until) {
            (Some(duration), None) => Until::For(self.duration(duration)?),
            (None, Some(until)) => {
                let kind = self.leak(&until.leak);
                let between = match &until.between {
                    Some(pair) => Some(self.pair(pair)?),
                    None => None,
                };
                Until::Leak { kind: kind?, between }
            }
            _ => {
                self.places
                    .report(raw, "it is not clear when the capture ends")
                    .expected("exactly one of `for: 3s` and `until: { leak: … }`");
                return None;
            }
        };
        Some(Action::Capture {
            workload: workload?,
            filter,
            until,
        })
    }

    fn answer_action(&mut self, raw: &Spanned<RawAnswerAction>, checks: &[Spanned<RawCheck>]) -> Option<Action> {
        let known: Vec<&str> = checks.iter().map(|check| check.value.name.value.as_str()).collect();
        let check = self.check_named(&raw.value.check, &known)?;
        if checks[check].value.question.is_none() {
            self.places
                .report(&raw.value.check, "this check asks no question")
                .expected("the name of a check with `question`");
            return None;
        }
        let value = match (&raw.value.from, &raw.value.value) {
            (Some(from), None) => {
                self.fixed(from, "capture");
                AnswerValue::FromCapture
            }
            (None, Some(value)) => AnswerValue::Text(self.filled(value, false)),
            _ => {
                self.places
                    .report(raw, "the answer is missing")
                    .expected("exactly one of `from: capture` and `value: …`");
                return None;
            }
        };
        Some(Action::Answer { check, value })
    }

    fn duration(&mut self, raw: &Text) -> Option<Duration> {
        let text = raw.value.as_str();
        let parsed = text
            .strip_suffix("ms")
            .map(|number| (number, 1))
            .or_else(|| text.strip_suffix('s').map(|number| (number, 1000)))
            .and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(unit))
            .map(Duration::from_millis)
            .filter(|duration| *duration <= LONGEST && !duration.is_zero());
        if parsed.is_none() {
            self.places
                .report(raw, format!("`{}` is no duration", crate::text::one_line(text)))
                .expected(format!("as `3s` or `500ms`, at most {}s", LONGEST.as_secs()));
        }
        parsed
    }
}
