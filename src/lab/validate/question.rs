//! The questions of checks.

use regex::RegexBuilder;

use super::{Validator, check::transpose};
use crate::lab::{
    model::{Answer, Captured, Choice, Part, Question},
    raw::{RawAnswer, RawChoice, RawQuestion, Spanned, Text},
};

impl Validator<'_> {
    pub(super) fn question(&mut self, raw: &RawQuestion) -> Option<Question> {
        let ask = self.text(&raw.ask);
        let answer = self.answer(&raw.answer)?;
        Some(Question {
            ask: ask.trim().to_owned(),
            answer,
        })
    }

    fn answer(&mut self, raw: &Spanned<RawAnswer>) -> Option<Answer> {
        let answer = &raw.value;
        match (&answer.from, &answer.choices, &answer.matches) {
            (Some(from), None, None) => {
                self.fixed(from, "capture");
                self.captured(raw).map(Answer::Captured)
            }
            (None, Some(choices), None) => self.choices(choices).map(Answer::Choices),
            (None, None, Some(rules)) => {
                let rules: Vec<_> = rules.value.iter().map(|rule| self.rule(rule)).collect();
                rules.into_iter().collect::<Option<Vec<_>>>().map(Answer::Text)
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what the right answer is")
                    .expected("exactly one of `from: capture`, `choices` and `matches`");
                None
            }
        }
    }

    fn captured(&mut self, raw: &Spanned<RawAnswer>) -> Option<Captured> {
        let Some(leak) = &raw.value.leak else {
            self.places
                .report(raw, "which captured secret is the answer is not said")
                .expected("`leak: …` beside `from: capture`");
            return None;
        };
        let leak = self.leak(leak);
        let part = raw
            .value
            .part
            .as_ref()
            .map_or(Some(Part::Value), |part| self.named(part, Part::ALL));
        let between = transpose(raw.value.between.as_ref().map(|pair| self.pair(pair)))?;
        Some(Captured {
            leak: leak?,
            part: part?,
            between,
        })
    }

    fn choices(&mut self, raw: &Spanned<Vec<RawChoice>>) -> Option<Vec<Choice>> {
        let right = raw.value.iter().filter(|choice| choice.right).count();
        if raw.value.len() < 2 || raw.value.len() > 26 || right == 0 {
            self.places
                .report(
                    raw,
                    format!("there are {} choices, {right} of them right", raw.value.len()),
                )
                .expected("2 to 26 choices, at least one with `right: true`");
            return None;
        }
        let choice = |choice: &RawChoice| Choice {
            text: self.line(&choice.text),
            right: choice.right,
        };
        Some(raw.value.iter().map(choice).collect())
    }

    fn rule(&mut self, raw: &Text) -> Option<regex::Regex> {
        let whole = format!("^(?:{})$", raw.value);
        match RegexBuilder::new(&whole)
            .case_insensitive(true)
            .size_limit(1 << 20)
            .build()
        {
            Ok(rule) => Some(rule),
            Err(error) => {
                self.places
                    .report(raw, "this is no regular expression")
                    .expected("the syntax of the Rust crate `regex`")
                    .hint(crate::text::one_line(&error.to_string()));
                None
            }
        }
    }
}
