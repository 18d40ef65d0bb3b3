//! What verifying a lab showed.

use std::fmt;

use serde::Serialize;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which run, from 1; what stands for itself has the number behind the last.
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
    /// How long the whole took, in milliseconds, with what was made for it and taken away.
    pub took_ms: u64,
    /// What was tried, in order.
    pub lines: Vec<Line>,
    /// How long each check took.
    pub timings: Vec<Timing>,
}

/// How long a check takes to gather its evidence and judge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Its step.
    pub step: String,
    /// Its name.
    pub check: String,
    /// How often it ran.
    pub times: u32,
    /// How long it took on average, in microseconds.
    pub mean_us: u64,
    /// How long it took at most, in microseconds.
    pub longest_us: u64,
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
        let name = |timing: &Timing| format!("{}: {}", timing.step, crate::text::one_line(&timing.check));
        let longest = self
            .timings
            .iter()
            .map(|timing| crate::text::width(&name(timing)))
            .max();
        let longest = longest.unwrap_or_default();
        for timing in &self.timings {
            let milliseconds = |micros: u64| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            writeln!(
                f,
                "  check {:<longest$}  {:>9} on average, {:>9} at most, {} times",
                name(timing),
                milliseconds(timing.mean_us),
                milliseconds(timing.longest_us),
                timing.times
            )?;
        }
        let wrong = self.lines.iter().filter(|line| !line.ok).count();
        let seconds = format!("{}.{}", self.took_ms / 1000, self.took_ms % 1000 / 100);
        if wrong == 0 {
            writeln!(
                f,
                "lab {}: proved, {} lines; {seconds} s, with all that was made for it and taken away",
                self.lab,
                self.lines.len()
            )
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
