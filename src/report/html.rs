//! The report as one HTML page that needs nothing else.

use std::fmt::Write;

use super::{MASKED, Report, standing, word};
use crate::posture::{
    Change,
    html::{body, escape, page},
};

/// The whole page.
pub fn html(report: &Report) -> String {
    let progress = &report.progress;
    let title = format!("Report: {}", progress.lab.title);
    let mut out = format!("<h1>{}</h1>\n<table>\n", escape(&title));
    for (label, text) in report.facts() {
        let _ = writeln!(out, "<tr><th scope=\"row\">{label}</th><td>{}</td></tr>", escape(&text));
    }
    let _ = writeln!(out, "</table>\n<p>{MASKED}</p>\n<h2>Steps</h2>");
    steps(report, &mut out);
    posture(report, &mut out);
    out.push_str("<h2>What happened</h2>\n<ol>\n");
    for event in &progress.events {
        if let Some(sentence) = event.sentence() {
            let _ = writeln!(out, "<li><time>{}</time> {}</li>", escape(&event.at), escape(&sentence));
        }
    }
    out.push_str("</ol>\n");
    page(&title, &out)
}

fn steps(report: &Report, out: &mut String) {
    for step in &report.progress.steps {
        let _ = writeln!(
            out,
            "<details open><summary><strong>{}</strong>: {}, {} of {} points, {} hints</summary>\n<ul>",
            escape(&step.title),
            standing(step),
            step.earned,
            step.points,
            step.hints
        );
        if let Some(why) = &step.impossible {
            let _ = writeln!(
                out,
                "<li>not possible on this ground: {}</li>\n</ul></details>",
                escape(why)
            );
            continue;
        }
        for check in &step.checks {
            let sign = if check.passed { "✓ passed" } else { "✗ not passed" };
            let _ = writeln!(out, "<li><strong>{}</strong>: {sign}\n<ul>", escape(&check.name));
            for (label, text) in [
                ("expected", &check.expected),
                ("found", &check.found),
                ("answer", &check.answer),
            ] {
                if let Some(text) = text {
                    let _ = writeln!(out, "<li>{label}: {}</li>", escape(text));
                }
            }
            for line in &check.evidence {
                let _ = writeln!(out, "<li>evidence: <code>{}</code></li>", escape(line));
            }
            if !check.why.is_empty() {
                let _ = writeln!(out, "<li>why it matters: {}</li>", escape(&check.why));
            }
            out.push_str("</ul></li>\n");
        }
        out.push_str("</ul></details>\n");
    }
}

fn posture(report: &Report, out: &mut String) {
    out.push_str("<h2>Posture</h2>\n");
    for note in &report.notes {
        let _ = writeln!(out, "<p>{}</p>", escape(note));
    }
    let changes = report.changes();
    let different: Vec<&Change> = changes.iter().filter(|change| !change.is_same()).collect();
    if !changes.is_empty() {
        let _ = writeln!(
            out,
            "<p>{} of {} calls are different now.</p>",
            different.len(),
            changes.len()
        );
    }
    if !different.is_empty() {
        out.push_str("<table>\n<tr><th scope=\"col\">call</th><th scope=\"col\">declared</th><th scope=\"col\">before</th><th scope=\"col\">after</th></tr>\n");
        for change in different {
            let declared = if change.declared { "yes" } else { "no" };
            let (before, after) = (word(change.before), word(change.after));
            let edge = escape(&change.edge);
            let _ = writeln!(
                out,
                "<tr><td>{edge}</td><td>{declared}</td><td>{before}</td><td>{after}</td></tr>"
            );
        }
        out.push_str("</table>\n");
    }
    for (title, measured) in [("Before", &report.before), ("After", &report.after)] {
        if let Some(measured) = measured {
            let _ = writeln!(out, "<h3>{title}</h3>\n{}", body(&measured.matrix, 4));
        }
    }
}
