//! What is wrong with a lab file, shown where it stands.

use std::fmt;

use serde::Serialize;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The lab cannot be used, or proves less than it says.
    Error,
    /// Worth a look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The rule it is against, in a word for programs: `unknown-field`, `no-solution`, …
    pub rule: &'static str,
    /// The line, from 1; 0 when the place is not known.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected there, if that can be said.
    pub expected: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The line's text.
    pub source: String,
}

/// Why a lab file is refused: every problem that could be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct LabError {
    /// The file's name.
    pub file: String,
    /// What is wrong with it; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.show(problem, f)?;
        }
        Ok(())
    }
}

/// How many characters of a source line are shown.
const SHOWN: usize = 100;

impl LabError {
    /// The error of these problems.
    pub fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    /// The error of one problem.
    pub(super) fn one(file: &str, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            problems: vec![problem],
        }
    }

    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if problem.line > 0 {
            write!(f, ":{}:{}", problem.line, problem.column)?;
        }
        let mark = match problem.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, ": {mark}{}", problem.message)?;
        if problem.line > 0 {
            let number = problem.line.to_string();
            let gutter = " ".repeat(number.len());
            let line: String = problem.source.chars().take(SHOWN).map(crate::text::visible).collect();
            write!(f, "\n {gutter} |\n {number} | {line}")?;
            let column = problem.column.max(1) - 1;
            if column < SHOWN {
                let room = line.chars().count().saturating_sub(column).max(1);
                let carets = "^".repeat(problem.width.clamp(1, room));
                write!(f, "\n {gutter} | {}{carets}", " ".repeat(column))?;
            }
        }
        if let Some(expected) = &problem.expected {
            write!(f, "\n   expected: {expected}")?;
        }
        if let Some(hint) = &problem.hint {
            write!(f, "\n   hint: {hint}")?;
        }
        Ok(())
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words, two letters swapped counting as one (optimal string alignment); case is ignored, and words
/// are cut at 40 characters.
fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| -> Vec<char> { word.chars().take(40).flat_map(char::to_lowercase).collect() };
    let (one, other) = (letters(one), letters(other));
    let mut table = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = one[i - 1] == other[j - 1];
                let least = (table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let least = least.min(table[i - 1][j - 1] + usize::from(!same));
                if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                    least.min(table[i - 2][j - 2] + 1)
                } else {
                    least
                }
            };
        }
    }
    table[one.len()][other.len()]
}

/// Names as a sentence lists them: `` `a`, `b` or `c` ``.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
