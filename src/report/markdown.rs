//! The report as a Markdown page.

use std::fmt::Write;

use super::{MASKED, Report, standing, word};
use crate::posture::{
    Change,
    markdown::{escape, markdown as matrix},
};

/// The whole page.
pub fn markdown(report: &Report) -> String {
    let progress = &report.progress;
    let mut out = format!("# Report: {}\n\n| | |\n|---|---|\n", escape(&progress.lab.title));
    for (label, text) in report.facts() {
        let _ = writeln!(out, "| {label} | {} |", escape(&text));
    }
    let _ = writeln!(
        out,
        "\n{MASKED}\n\n## Steps\n\n| step | standing | points | hints |\n|---|---|---|---|"
    );
    for step in &progress.steps {
        let _ = writeln!(
            out,
            "| {} | {} | {}/{} | {} |",
            escape(&step.title),
            standing(step),
            step.earned,
            step.points,
            step.hints
        );
    }
    for step in &progress.steps {
        let _ = writeln!(out, "\n### {}\n", escape(&step.title));
        if let Some(why) = &step.impossible {
            let _ = writeln!(out, "Not possible on this ground: {}.", escape(why));
            continue;
        }
        for check in &step.checks {
            let sign = if check.passed { "passed" } else { "not passed" };
            let _ = writeln!(out, "- **{}**: {sign}", escape(&check.name));
            for (label, text) in [
                ("expected", &check.expected),
                ("found", &check.found),
                ("answer", &check.answer),
            ] {
                if let Some(text) = text {
                    let _ = writeln!(out, "  - {label}: {}", escape(text));
                }
            }
            for line in &check.evidence {
                let _ = writeln!(out, "  - evidence: {}", escape(line));
            }
            if !check.why.is_empty() {
                let _ = writeln!(out, "  - why it matters: {}", escape(&check.why));
            }
        }
    }
    posture(report, &mut out);
    let _ = writeln!(out, "\n## What happened\n");
    for event in &progress.events {
        if let Some(sentence) = event.sentence() {
            let _ = writeln!(out, "- {}: {}", escape(&event.at), escape(&sentence));
        }
    }
    out
}

fn posture(report: &Report, out: &mut String) {
    let _ = writeln!(out, "\n## Posture\n");
    for note in &report.notes {
        let _ = writeln!(out, "- {}", escape(note));
    }
    let changes = report.changes();
    let different: Vec<&Change> = changes.iter().filter(|change| !change.is_same()).collect();
    if !changes.is_empty() {
        let _ = writeln!(
            out,
            "\n{} of {} calls are different now.\n",
            different.len(),
            changes.len()
        );
    }
    if !different.is_empty() {
        let _ = writeln!(out, "| call | declared | before | after |\n|---|---|---|---|");
    }
    for change in different {
        let declared = if change.declared { "yes" } else { "no" };
        let (before, after) = (word(change.before), word(change.after));
        let _ = writeln!(out, "| {} | {declared} | {before} | {after} |", escape(&change.edge));
    }
    for (title, measured) in [("Before", &report.before), ("After", &report.after)] {
        if let Some(measured) = measured {
            let _ = writeln!(out, "\n### {title}\n\n{}", matrix(&measured.matrix, 4));
        }
    }
}
