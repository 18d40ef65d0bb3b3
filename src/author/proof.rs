//! What verifying a lab showed.

use std::fmt;

use serde::Serialize;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which run, from 1.
    pub run: u32,
    /// What was done.
    pub what: String,
    /// What must come of it.
    pub expected: String,
    /// What came of it.
    pub found: String,
    /// Whether that is what must.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Everything that was tried with a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The lab's id.
    pub lab: String,
    /// Hash of its file.
    pub hash: String,
    /// Whether every line is ok.
    pub ok: bool,
    /// What was tried, in order.
    pub lines: Vec<Line>,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |line: &Line| [line.what.clone(), line.expected.clone(), format!("{} ms", line.took_ms)];
        let width = |column: usize| {
            let longest = self
                .lines
                .iter()
                .map(|line| crate::text::width(&cells(line)[column]))
                .max();
            longest.unwrap_or_default()
        };
        let (what, expected, took) = (width(0), width(1), width(2));
        for line in &self.lines {
            let mark = if line.ok { "✓" } else { "✗" };
            let [a, b, c] = cells(line);
            writeln!(f, "{mark} {} {a:<what$}  {b:<expected$}  {c:>took$}", line.run)?;
            if !line.ok {
                writeln!(f, "    found: {}", crate::text::one_line(&line.found))?;
            }
        }
        let total: u64 = self.lines.iter().map(|line| line.took_ms).sum();
        let wrong = self.lines.iter().filter(|line| !line.ok).count();
        let seconds = total / 1000;
        if wrong == 0 {
            writeln!(f, "lab {}: proved, {} lines in {seconds} s", self.lab, self.lines.len())
        } else {
            writeln!(
                f,
                "lab {}: NOT proved, {wrong} of {} lines are wrong",
                self.lab,
                self.lines.len()
            )
        }
    }
}
