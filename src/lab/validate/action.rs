//! What ztlab does to solve a step or to try what does not.

use std::time::Duration;

use super::Validator;
use crate::{
    lab::{
        error::one_of,
        model::{Action, AnswerValue, Attempt, Until},
        raw::{RawAction, RawAnswerAction, RawAttempt, RawCaptureAction, RawCheck, RawStep, Spanned, Text},
    },
    packet::LeakKind,
    score::Points,
};

/// The longest a capture of a solution or an attempt may run.
const LONGEST: Duration = Duration::from_secs(60);

impl Validator<'_> {
    pub(super) fn attempt(&mut self, raw: &RawAttempt, step: &RawStep) -> Option<Attempt> {
        let checks = &step.checks.value;
        let known: Vec<&str> = checks.iter().map(|check| check.value.name.value.as_str()).collect();
        let actions: Vec<_> = raw.actions.iter().map(|action| self.action(action, checks)).collect();
        let fails = self.check_named(&raw.fails, &known);
        let scores = raw.scores.as_ref().map_or(Some(0), |scores| {
            self.within(scores, 0, step.points.value, "points of this step")
        });
        Some(Attempt {
            actions: actions.into_iter().collect::<Option<_>>()?,
            fails: fails?,
            scores: Points(scores?),
        })
    }

    pub(super) fn action(&mut self, raw: &Spanned<RawAction>, checks: &[Spanned<RawCheck>]) -> Option<Action> {
        let action = &raw.value;
        match (&action.capture, &action.answer, &action.exec) {
            (Some(capture), None, None) => self.capture_action(capture),
            (None, Some(answer), None) => self.answer_action(answer, checks),
            (None, None, Some(exec)) => {
                let workload = self.workload(&exec.workload);
                if exec.run.value.is_empty() {
                    self.places
                        .report(&exec.run, "no program is named")
                        .expected("a list: the program, then its arguments");
                }
                let run = exec.run.value.iter().map(|word| self.word(word)).collect();
                Some(Action::Exec {
                    workload: workload?,
                    run,
                })
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what is to be done")
                    .expected("exactly one of `capture`, `answer` and `exec`");
                None
            }
        }
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
            (None, Some(value)) => AnswerValue::Text(self.word(value)),
            _ => {
                self.places
                    .report(raw, "the answer is missing")
                    .expected("exactly one of `from: capture` and `value: …`");
                return None;
            }
        };
        Some(Action::Answer { check, value })
    }

    /// A word of a command or an answer, whose `${…}` must be known.
    fn word(&mut self, raw: &Text) -> String {
        let mut rest = raw.value.as_str();
        while let Some(start) = rest.find("${") {
            let inner = &rest[start + 2..];
            let end = inner.find('}');
            let name = end.map_or(inner, |end| &inner[..end]);
            let known = name
                .strip_prefix("leak.")
                .map(|leak| leak.strip_suffix(".account").unwrap_or(leak))
                .is_some_and(|leak| LeakKind::ALL.into_iter().any(|kind| kind.as_str() == leak));
            if end.is_none() || !known {
                self.places
                    .report(
                        raw,
                        format!("`${{{}}}` stands for nothing", crate::text::one_line(name)),
                    )
                    .expected(format!(
                        "`${{leak.KIND}}` or `${{leak.KIND.account}}`, where KIND is {}",
                        one_of(LeakKind::ALL.map(LeakKind::as_str))
                    ));
                break;
            }
            rest = &inner[name.len() + 1..];
        }
        self.text(raw)
    }

    fn duration(&mut self, raw: &Text) -> Option<Duration> {
        let text = raw.value.trim();
        let parsed = text
            .strip_suffix("ms")
            .map(|number| (number, 1))
            .or_else(|| text.strip_suffix('s').map(|number| (number, 1000)))
            .and_then(|(number, unit)| number.trim().parse::<u64>().ok()?.checked_mul(unit))
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
