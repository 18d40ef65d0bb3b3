//! The questions of checks.

use regex::{Regex, RegexBuilder};

use super::{Validator, check::transpose};
use crate::lab::{
    model::{Answer, Captured, Choice, Number, Pair, Part, Prediction, Property, Question},
    raw::{RawAnswer, RawChoice, RawNumber, RawPredict, RawQuestion, Spanned, Text},
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
        let mut kinds = Vec::new();
        if let Some(from) = &answer.from {
            self.fixed(from, "capture");
            kinds.push(self.captured(raw).map(Answer::Captured));
        }
        if let Some(choices) = &answer.choices {
            kinds.push(self.choices(choices).map(Answer::Choices));
        }
        if let Some(number) = &answer.number {
            kinds.push(self.number(number).map(Answer::Number));
        }
        if let Some(rules) = &answer.matches {
            kinds.push(self.rules(rules, "^(?:", ")$").map(Answer::Text));
        }
        if let Some(rules) = &answer.all {
            kinds.push(self.rules(rules, "", "").map(Answer::All));
        }
        if let Some(predict) = &answer.predict {
            kinds.push(self.predict(predict).map(Answer::Predict));
        }
        if kinds.len() != 1 {
            self.places
                .report(raw, format!("{} kinds of right answer are given", kinds.len()))
                .expected("exactly one of `from: capture`, `choices`, `number`, `matches`, `all` and `predict`");
            return None;
        }
        if answer.from.is_none() {
            for (field, there) in [
                ("leak", answer.leak.as_ref().map(|text| text.at)),
                ("part", answer.part.as_ref().map(|text| text.at)),
                ("between", answer.between.as_ref().map(|pair| pair.at)),
            ] {
                if let Some(at) = there {
                    self.places
                        .report(&Spanned::new((), at), format!("`{field}` says nothing here"))
                        .expected(format!("`{field}` beside `from: capture` only"));
                }
            }
        }
        kinds.pop()?
    }

    fn number(&mut self, raw: &Spanned<RawNumber>) -> Option<Number> {
        let value = |number: &Option<Spanned<f64>>| number.as_ref().map(|number| number.value);
        let number = &raw.value;
        let found = match (value(&number.is), value(&number.min), value(&number.max)) {
            (Some(is), None, None) => {
                let tolerance = value(&number.tolerance).unwrap_or(0.0).abs();
                Some((is - tolerance, is + tolerance))
            }
            (None, None, None) => None,
            (None, min, max) if number.tolerance.is_none() => Some((min.unwrap_or(f64::MIN), max.unwrap_or(f64::MAX))),
            _ => None,
        };
        // What is no number compares with nothing.
        let found = found.filter(|(least, most)| least <= most && least.is_finite() && most.is_finite());
        if found.is_none() {
            self.places
                .report(raw, "no number is right then")
                .expected("`is: 16`, perhaps with `tolerance: 0.5`, or `min` and `max` with the smaller first");
        }
        found.map(|(least, most)| Number { least, most })
    }

    fn predict(&mut self, raw: &Spanned<RawPredict>) -> Option<Prediction> {
        let predict = &raw.value;
        let property = self.named(&predict.property, Property::ALL);
        let count = predict.pairs.value.len();
        if !(1..=Prediction::MOST).contains(&count) {
            self.places
                .report(&predict.pairs, format!("there are {count} pairs"))
                .expected("1 to 25 pairs: each is an option with a letter");
        }
        let mut pairs: Vec<Pair> = Vec::new();
        for pair in &predict.pairs.value {
            let (from, to) = (self.workload(&pair.from), self.workload(&pair.to));
            let port = pair.port.as_ref();
            if let (Some(port), Some(to)) = (port, &to) {
                self.port(to.as_str(), port);
            }
            let pair_there = Pair {
                from: from?,
                to: to?,
                port: port.map(|port| port.value),
            };
            if pairs.contains(&pair_there) {
                self.places
                    .report(&pair.from, "this pair is there twice")
                    .expected("each pair once");
            }
            pairs.push(pair_there);
        }
        if let Some(layer) = &predict.layer
            && self.among.manifests.layer(&layer.value).is_none()
        {
            self.unknown_layer(layer);
            return None;
        }
        Some(Prediction {
            property: property?,
            pairs,
            layer: predict.layer.as_ref().map(|layer| layer.value.clone()),
        })
    }

    fn rules(&mut self, raw: &Spanned<Vec<Text>>, before: &str, behind: &str) -> Option<Vec<Regex>> {
        if raw.value.is_empty() {
            self.places
                .report(raw, "there is no rule")
                .expected("at least one regular expression");
        }
        self.few(raw, "rules");
        let rules: Vec<_> = raw.value.iter().map(|rule| self.rule(rule, before, behind)).collect();
        rules.into_iter().collect()
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

    /// A regular expression. The crate `regex` takes time linear in the text, whatever the expression; what grows is the
    /// compiled expression, which is bounded.
    fn rule(&mut self, raw: &Text, before: &str, behind: &str) -> Option<Regex> {
        let whole = format!("{before}{}{behind}", raw.value);
        match RegexBuilder::new(&whole)
            .case_insensitive(true)
            .size_limit(1 << 20)
            .dfa_size_limit(1 << 20)
            .nest_limit(50)
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
