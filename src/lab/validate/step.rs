//! The steps of a lab, and the order in which they can be opened.

use std::collections::{BTreeMap, BTreeSet};

use super::{MOST, Validator};
use crate::{
    lab::{
        error::one_of,
        model::{Hint, Opens, Step, StepId},
        raw::{RawHint, RawStep, Spanned},
    },
    score::Points,
    verdict::Finding,
};

impl Validator<'_> {
    pub(super) fn steps(&mut self, raw: &Spanned<Vec<RawStep>>) -> Option<Vec<Step>> {
        if raw.value.is_empty() {
            self.places
                .report(raw, "the lab has no steps")
                .expected("at least one step");
        }
        self.few(raw, "steps");
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, step) in raw.value.iter().enumerate() {
            if let Some(first) = index.get(step.id.value.as_str()).copied() {
                let line = raw.value[first].id.at.line;
                self.places
                    .report(
                        &step.id,
                        format!("a second step is called `{}`", crate::text::one_line(&step.id.value)),
                    )
                    .expected("an id that no other step has")
                    .hint(format!("the first one is on line {line}"));
            } else {
                index.insert(&step.id.value, at);
            }
        }
        let needs: Vec<Vec<usize>> = raw.value.iter().map(|step| self.needs(step, &index)).collect();
        self.no_cycle(&raw.value, &needs);
        let total: u64 = raw.value.iter().map(|step| u64::from(step.points.value)).sum();
        // Points that are missing or no number were reported.
        let known = raw.value.iter().all(|step| step.points.at.line > 0);
        if total != 100 && !raw.value.is_empty() && known {
            self.places
                .report(raw, format!("the points of the steps sum to {total}"))
                .expected("100");
        }
        let steps: Vec<Option<Step>> = raw
            .value
            .iter()
            .zip(needs)
            .map(|(step, needs)| self.step(step, needs))
            .collect();
        steps.into_iter().collect()
    }

    fn needs(&mut self, step: &RawStep, index: &BTreeMap<&str, usize>) -> Vec<usize> {
        let mut needs = Vec::new();
        for need in &step.needs {
            match index.get(need.value.as_str()) {
                Some(at) => needs.push(*at),
                None => {
                    let known: Vec<&str> = index.keys().copied().filter(|id| *id != step.id.value).collect();
                    self.unknown(need, "step", &known);
                }
            }
        }
        needs
    }

    /// Reports every step that can never be opened because it needs, in the end, itself.
    fn no_cycle(&mut self, steps: &[RawStep], needs: &[Vec<usize>]) {
        let mut open: BTreeSet<usize> = BTreeSet::new();
        loop {
            let before = open.len();
            for (at, needs) in needs.iter().enumerate() {
                if needs.iter().all(|need| open.contains(need)) {
                    open.insert(at);
                }
            }
            if open.len() == before {
                break;
            }
        }
        for (at, step) in steps.iter().enumerate() {
            if open.contains(&at) {
                continue;
            }
            let waits: Vec<&str> = needs[at]
                .iter()
                .filter(|need| !open.contains(need))
                .map(|need| steps[*need].id.value.as_str())
                .collect();
            let place = step
                .needs
                .iter()
                .find(|need| waits.contains(&need.value.as_str()))
                .unwrap_or(&step.id);
            self.places
                .report(
                    place,
                    format!(
                        "the step `{}` can never be opened",
                        crate::text::one_line(&step.id.value)
                    ),
                )
                .expected("steps that need earlier ones, and no ring of them")
                .hint(format!("it waits for {}, which waits in turn", one_of(waits)));
        }
    }

    fn step(&mut self, raw: &RawStep, needs: Vec<usize>) -> Option<Step> {
        let id = self.name(&raw.id).map(StepId);
        let points = self.within(&raw.points, 0, 100, "points");
        if raw.checks.value.is_empty() {
            self.places
                .report(&raw.checks, "the step has no checks")
                .expected("at least one check");
        }
        self.few(&raw.checks, "checks");
        let mut names = BTreeSet::new();
        for check in &raw.checks.value {
            if !names.insert(check.value.name.value.as_str()) {
                self.places
                    .report(&check.value.name, "a second check of this step has this name")
                    .expected("a name that no other check of the step has");
            }
        }
        let known: Vec<&str> = raw
            .checks
            .value
            .iter()
            .map(|check| check.value.name.value.as_str())
            .collect();
        let checks: Vec<_> = raw.checks.value.iter().map(|check| self.check(check)).collect();
        self.lint_step(raw, &checks);
        let hints: Vec<_> = raw.hints.iter().map(|hint| self.hint(hint, &known)).collect();
        let solution: Vec<_> = raw
            .solution
            .iter()
            .map(|action| self.action(action, &raw.checks.value))
            .collect();
        let wrong: Vec<_> = raw
            .wrong
            .iter()
            .map(|attempt| self.attempt(&attempt.value, raw))
            .collect();
        for (count, what) in [
            (raw.hints.len(), "hints"),
            (raw.solution.len(), "actions"),
            (raw.wrong.len(), "attempts"),
        ] {
            if count > MOST {
                self.places
                    .report(&raw.id, format!("the step has {count} {what}"))
                    .expected(format!("at most {MOST}"));
            }
        }
        Some(Step {
            id: id?,
            title: self.line(&raw.title),
            points: Points(points?),
            needs,
            capabilities: self.step_capabilities(raw),
            vantage: raw.vantage.as_ref().map(|text| self.text(text)),
            instructions: self.markdown(&raw.instructions),
            checks: checks.into_iter().collect::<Option<_>>()?,
            hints: hints.into_iter().collect::<Option<_>>()?,
            teaches: raw.teaches.as_ref().map(|text| self.markdown(text)),
            solution: solution.into_iter().collect::<Option<_>>()?,
            wrong: wrong.into_iter().collect::<Option<_>>()?,
        })
    }

    fn hint(&mut self, raw: &Spanned<RawHint>, checks: &[&str]) -> Option<Hint> {
        let text = self.markdown(&raw.value.text);
        let opens = match (&raw.value.when, &raw.value.cost) {
            (Some(when), None) => {
                let check = self.check_named(&when.check, checks);
                let finding = self.named(&when.found, Finding::ALL);
                Opens::When {
                    check: check?,
                    finding: finding?,
                    asked: when.asked.unwrap_or(false),
                }
            }
            (None, Some(cost)) => Opens::Asked(Points(self.within(cost, 0, 100, "points")?)),
            _ => {
                self.places
                    .report(raw, "it is not clear when this hint opens")
                    .expected("exactly one of `when` (opens by itself) and `cost` (opens when asked for)");
                return None;
            }
        };
        Some(Hint { text, opens })
    }
}
