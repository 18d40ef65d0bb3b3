//! What was measured of the posture.

use super::LINES;
use crate::{
    lab::{PostureCheck, Property},
    posture::{self, Answer, Level, Matrix},
    verdict::{Finding, Judgement, Verdict},
};

pub(super) fn expected(check: &PostureCheck) -> String {
    match check {
        PostureCheck::Level(level) => format!("the zero trust level that is measured is {level} or more"),
        PostureCheck::Cell { from, to, port, wanted } => {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let wanted: Vec<&str> = wanted.iter().map(|(property, holds)| says(*property, *holds)).collect();
            format!("from {from} to {to}{port}: {}", wanted.join(", "))
        }
    }
}

/// What a property says of a cell of the posture.
const fn says(property: Property, holds: bool) -> &'static str {
    match (property, holds) {
        (Property::Reachable, true) => "a connection opens",
        (Property::Reachable, false) => "no connection opens",
        (Property::Readable, true) => "what is sent can be read on the way",
        (Property::Readable, false) => "nothing can be read on the way",
        (Property::ServerAuthenticated, true) => "the callee proves who it is",
        (Property::ServerAuthenticated, false) => "the callee does not prove who it is",
        (Property::ClientAuthenticated, true) => "the caller must prove who it is",
        (Property::ClientAuthenticated, false) => "the caller need not prove who it is",
        (Property::Authorised, true) => "identity decides who may call",
        (Property::Authorised, false) => "identity does not decide who may call",
    }
}

/// A property as the posture room has it.
pub(in crate::check) const fn measured(property: Property) -> posture::Property {
    match property {
        Property::Reachable => posture::Property::Reachable,
        Property::Readable => posture::Property::Readable,
        Property::ServerAuthenticated => posture::Property::ServerAuthenticated,
        Property::ClientAuthenticated => posture::Property::ClientAuthenticated,
        Property::Authorised => posture::Property::AuthorisedByIdentity,
    }
}

pub(super) fn judge(check: &PostureCheck, matrix: &Matrix) -> Judgement {
    let (verdict, finding, found, proof) = match check {
        PostureCheck::Level(level) => look_level(*level, matrix),
        PostureCheck::Cell { from, to, port, wanted } => {
            let cell = matrix.cell(from.as_str(), to.as_str(), *port);
            let Some(cell) = cell else {
                let found = format!("nothing was measured from {from} to {to}");
                return Judgement::new(Verdict::Undetermined, Finding::NoWorkload, expected(check), found);
            };
            look_cell(matrix, cell, wanted)
        }
    };
    let proof = proof.iter().take(LINES).map(|line| crate::text::one_line(line));
    Judgement::new(verdict, finding, expected(check), crate::text::one_line(&found)).with_evidence(proof)
}

type Look = (Verdict, Finding, String, Vec<String>);

fn look_level(wanted: u8, matrix: &Matrix) -> Look {
    let report = matrix.level();
    let found = format!("level {}: {}", report.level, report.because);
    let proof = report
        .rules
        .iter()
        .map(|rule| {
            let holds = match rule.holds {
                Answer::Yes => "holds",
                Answer::No => "does not hold",
                Answer::Undetermined => "is undetermined",
            };
            format!("level {} {holds}: {}", rule.level, rule.standing())
        })
        .collect();
    match report.level {
        Level::Unknown => (Verdict::Undetermined, Finding::NotMeasured, found, proof),
        level if level.reaches(wanted) => (Verdict::Passed, Finding::Expected, found, proof),
        Level::Is(level) => {
            // What could not be measured is no evidence of a lower level.
            let next = report.rules.iter().find(|rule| rule.level == level + 1);
            match next.map(|rule| rule.holds) {
                Some(Answer::Undetermined) => (Verdict::Undetermined, Finding::NotMeasured, found, proof),
                _ => (Verdict::Failed, Finding::OtherLevel, found, proof),
            }
        }
    }
}

fn look_cell(matrix: &Matrix, cell: &posture::Cell, wanted: &[(Property, bool)]) -> Look {
    let mut unknown = None;
    let mut proof = Vec::new();
    for (property, holds) in wanted {
        let found = cell.finding(measured(*property));
        proof.extend(found.evidence.iter().map(ToString::to_string));
        let said = format!("{}: {}", matrix.edge(cell), found.because);
        match (found.answer, holds) {
            (Answer::Yes, true) | (Answer::No, false) => {}
            (Answer::Undetermined, _) => unknown = unknown.or(Some(said)),
            (answer, _) => {
                let finding = match (property, answer) {
                    (Property::Reachable, Answer::Yes) => Finding::Allowed,
                    (Property::Reachable, _) => Finding::Refused,
                    (Property::Readable, Answer::Yes) => Finding::Readable,
                    (Property::Readable, _) => Finding::Encrypted,
                    (Property::ClientAuthenticated, Answer::No) => Finding::NotAsked,
                    (Property::ClientAuthenticated, _) => Finding::Mutual,
                    (Property::ServerAuthenticated | Property::Authorised, _) => Finding::OtherLevel,
                };
                return (Verdict::Failed, finding, said, proof);
            }
        }
    }
    match unknown {
        Some(said) => (Verdict::Undetermined, Finding::NotMeasured, said, proof),
        None => (
            Verdict::Passed,
            Finding::Expected,
            format!("{}: measured so", matrix.edge(cell)),
            proof,
        ),
    }
}
