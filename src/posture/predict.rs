//! A student's prediction against a measurement.

use serde::{Deserialize, Serialize};

use super::model::{Answer, Matrix, Property};

/// What somebody says of a cell before it is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Who calls.
    pub from: String,
    /// Whom.
    pub to: String,
    /// At which port; without one, as [`Matrix::cell`] has it.
    #[serde(default)]
    pub port: Option<u16>,
    /// Which question.
    pub property: Property,
    /// The answer: yes or no.
    pub yes: bool,
}

/// What a prediction comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was measured so.
    Right,
    /// It was measured otherwise.
    Wrong,
    /// It could not be measured: neither right nor wrong.
    Undetermined,
    /// There is no such cell.
    NoSuchCell,
}

/// A prediction beside what was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The prediction.
    pub predicted: Predicted,
    /// What it comes to.
    pub outcome: Outcome,
    /// What was measured, in a sentence.
    pub because: String,
}

/// Every prediction beside what was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// In the order of the predictions.
    pub cells: Vec<Compared>,
}

impl Comparison {
    /// How many were right.
    pub fn right(&self) -> usize {
        self.count(Outcome::Right)
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.cells.len()
    }

    /// How many came to this.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.cells.iter().filter(|cell| cell.outcome == outcome).count()
    }

    /// Whether there are predictions and every one was right.
    pub fn all_right(&self) -> bool {
        !self.cells.is_empty() && self.right() == self.total()
    }
}

/// Puts predictions beside what was measured.
pub fn compare(predicted: &[Predicted], measured: &Matrix) -> Comparison {
    let cells = predicted.iter().map(|predicted| {
        let Some(cell) = measured.cell(&predicted.from, &predicted.to, predicted.port) else {
            return Compared {
                predicted: predicted.clone(),
                outcome: Outcome::NoSuchCell,
                because: format!("nothing was measured from {} to {}", predicted.from, predicted.to),
            };
        };
        let finding = cell.finding(predicted.property);
        let outcome = match (finding.answer, predicted.yes) {
            (Answer::Undetermined, _) => Outcome::Undetermined,
            (Answer::Yes, true) | (Answer::No, false) => Outcome::Right,
            (Answer::Yes, false) | (Answer::No, true) => Outcome::Wrong,
        };
        Compared {
            predicted: predicted.clone(),
            outcome,
            because: format!("{}: {}", measured.edge(cell), finding.because),
        }
    });
    Comparison { cells: cells.collect() }
}
