//! Answers: what is right, and whether an answer is that.

use std::sync::Arc;

use super::{Loot, judge::measured};
use crate::{
    lab::{Answer, Captured, Choice, Prediction, Question, choice_key},
    packet::LeakKind,
    posture::{Matrix, Outcome, Predicted, compare},
    verdict::{Finding, Judgement, Verdict},
};

/// Judges an answer.
pub fn judge(
    question: &Question,
    given: Option<&str>,
    loot: &[Loot],
    posture: Option<&Result<Arc<Matrix>, String>>,
) -> Judgement {
    let wanted = expected(question);
    let Some(given) = given.map(str::trim).filter(|given| !given.is_empty()) else {
        return Judgement::new(Verdict::Undetermined, Finding::NotAnswered, wanted, "not answered yet");
    };
    let wrong = || {
        let found = format!("you answered `{}`", crate::text::cut(&crate::text::one_line(given), 80));
        Judgement::new(Verdict::Failed, Finding::WrongAnswer, wanted.clone(), found)
    };
    let right = || Judgement::new(Verdict::Passed, Finding::Expected, wanted.clone(), "answered rightly");
    match &question.answer {
        Answer::Captured(captured) => match matching(captured, loot) {
            candidates if candidates.is_empty() => Judgement::new(
                Verdict::Undetermined,
                Finding::NothingToCompare,
                wanted.clone(),
                format!(
                    "answered, but your captures hold no {} to compare it with",
                    called(captured)
                ),
            ),
            candidates => candidates
                .iter()
                .find(|(value, _)| normal(captured.leak, value) == normal(captured.leak, given))
                .map_or_else(wrong, |(_, loot)| right().with_evidence([loot.describe()])),
        },
        Answer::Choices(choices) => {
            if parts(choices, given).is_some_and(|picked| is_right(choices, &picked)) {
                right()
            } else {
                wrong()
            }
        }
        Answer::Number(number) => match number.accepts(given) {
            Some(true) => right(),
            Some(false) => wrong(),
            None => {
                let given = crate::text::cut(&crate::text::one_line(given), 80);
                let found = format!("you answered `{given}`, which is no number: write it in digits");
                Judgement::new(Verdict::Failed, Finding::WrongAnswer, wanted, found)
            }
        },
        Answer::All(rules) => {
            if rules.iter().all(|rule| rule.is_match(given)) {
                right()
            } else {
                wrong()
            }
        }
        Answer::Predict(prediction) => match (prediction.read(given), posture) {
            (None, _) => wrong(),
            (Some(marked), Some(Ok(matrix))) => judge_prediction(prediction, &marked, matrix, wanted),
            (Some(_), measured) => {
                let why = match measured {
                    Some(Err(why)) => crate::text::one_line(why),
                    _ => "the posture was not measured".to_owned(),
                };
                let found = format!("answered, but {why}");
                Judgement::new(Verdict::Undetermined, Finding::NotMeasured, wanted, found)
            }
        },
        Answer::Text(rules) => {
            if rules.iter().any(|rule| rule.is_match(given)) {
                right()
            } else {
                wrong()
            }
        }
    }
}

/// Compares a prediction with what was measured. Which pair was wrong is not said: that would answer the question.
fn judge_prediction(prediction: &Prediction, marked: &[bool], matrix: &Matrix, wanted: String) -> Judgement {
    let predicted = prediction.pairs.iter().zip(marked).map(|(pair, yes)| Predicted {
        from: pair.from.to_string(),
        to: pair.to.to_string(),
        port: pair.port,
        property: measured(prediction.property),
        yes: *yes,
    });
    let compared = compare(&predicted.collect::<Vec<_>>(), matrix);
    let (right, total) = (compared.right(), compared.total());
    let found = format!("you were right about {right} of {total}");
    let unknown = compared.count(Outcome::Undetermined) + compared.count(Outcome::NoSuchCell);
    if compared.all_right() {
        let proof = compared.cells.iter().map(|cell| crate::text::one_line(&cell.because));
        return Judgement::new(Verdict::Passed, Finding::Expected, wanted, found).with_evidence(proof);
    }
    if compared.count(Outcome::Wrong) > 0 {
        return Judgement::new(Verdict::Failed, Finding::WrongAnswer, wanted, found);
    }
    let found = format!("{found}; {unknown} could not be measured");
    Judgement::new(Verdict::Undetermined, Finding::NotMeasured, wanted, found)
}

/// What a question expects, as a sentence that gives nothing away.
pub fn expected(question: &Question) -> String {
    match &question.answer {
        Answer::Captured(captured) => format!("the {} that your own capture shows", called(captured)),
        Answer::Choices(choices) if choices.iter().filter(|choice| choice.right).count() > 1 => {
            "every right choice and no other".to_owned()
        }
        Answer::Choices(_) => "the right choice".to_owned(),
        Answer::Text(_) | Answer::All(_) => "the right words".to_owned(),
        Answer::Number(_) => "the right number".to_owned(),
        Answer::Predict(prediction) => format!(
            "of {} pairs, those that are measured to be {}",
            prediction.pairs.len(),
            prediction.property.as_str()
        ),
    }
}

fn called(captured: &Captured) -> String {
    let kind = match captured.leak {
        LeakKind::BearerToken => "bearer token",
        LeakKind::BasicAuth => "basic-auth password",
        LeakKind::CardNumber => "card number",
        LeakKind::DatabaseLogin => "database password",
        LeakKind::Cookie => "cookie",
        LeakKind::ApiKey => "API key",
        LeakKind::Password => "password",
        LeakKind::PrivateKey => "private key",
    };
    match captured.part {
        crate::lab::Part::Value => kind.to_owned(),
        crate::lab::Part::Account => format!("user of the {kind}"),
    }
}

fn matching<'a>(captured: &Captured, loot: &'a [Loot]) -> Vec<(&'a str, &'a Loot)> {
    loot.iter()
        .filter_map(|loot| Some((loot.answers(captured)?, loot)))
        .collect()
}

/// What does not matter when two secrets of a kind are compared.
fn normal(kind: LeakKind, value: &str) -> String {
    let value = value.trim();
    match kind {
        LeakKind::CardNumber => value.chars().filter(|c| !matches!(c, ' ' | '-')).collect(),
        LeakKind::BearerToken => match value.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("bearer ") => value[7..].trim().to_owned(),
            _ => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// The places of the options that an answer names by key (`a, c`); `None` when it names something else.
pub fn parts(choices: &[Choice], given: &str) -> Option<Vec<usize>> {
    let mut picked: Vec<usize> = given
        .split([',', ' '])
        .filter(|key| !key.is_empty())
        .map(|key| (0..choices.len()).find(|index| choice_key(*index).eq_ignore_ascii_case(key)))
        .collect::<Option<_>>()?;
    picked.sort_unstable();
    picked.dedup();
    (!picked.is_empty()).then_some(picked)
}

fn is_right(choices: &[Choice], picked: &[usize]) -> bool {
    choices
        .iter()
        .enumerate()
        .all(|(index, choice)| choice.right == picked.contains(&index))
}

/// The right answer as a student would type it; `None` while nothing was captured that it could be.
pub fn right_answer(question: &Question, loot: &[Loot]) -> Option<String> {
    match &question.answer {
        Answer::Captured(captured) => matching(captured, loot).first().map(|(value, _)| (*value).to_owned()),
        Answer::Choices(choices) => {
            let right = choices.iter().enumerate().filter(|(_, choice)| choice.right);
            Some(right.map(|(index, _)| choice_key(index)).collect::<Vec<_>>().join(","))
        }
        Answer::Text(_) | Answer::Number(_) | Answer::All(_) | Answer::Predict(_) => None,
    }
}
