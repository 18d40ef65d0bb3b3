//! A matrix as a Markdown page.

use std::fmt::Write;

use super::{
    level::LevelReport,
    model::{Cell, Matrix, Property},
    text::{at, facts, letters, marks, properties, targets, title},
};

/// Text that Markdown shows as it is, in a line and in a table's cell: names are untrusted. Punctuation is written as
/// character references, which end no construct and begin none.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in crate::text::one_line(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '~' | '&' | '@' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    // What renderers make a link of by itself.
    out.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// The whole page; headings begin at `#` repeated `depth` times.
pub fn markdown(matrix: &Matrix, depth: usize) -> String {
    let level = matrix.level();
    let (one, two) = ("#".repeat(depth.max(1)), "#".repeat(depth.max(1) + 1));
    let mut out = format!(
        "{one} {}\n\n{}.\n\n",
        escape(&title(matrix, &level)),
        escape(&facts(matrix))
    );
    let _ = writeln!(out, "{}.\n", escape(&level.because));
    grid(matrix, &mut out);
    let _ = writeln!(out, "{two} Levels\n");
    rules(&level, &mut out);
    let declared: Vec<&Cell> = matrix.cells.iter().filter(|cell| cell.declared == Some(true)).collect();
    if !declared.is_empty() || !matrix.missing.is_empty() {
        let _ = writeln!(out, "{two} Declared calls\n");
    }
    for cell in declared {
        let _ = writeln!(
            out,
            "- **{}**: {}",
            escape(&matrix.edge(cell)),
            escape(&properties(cell))
        );
        for property in Property::ALL {
            let finding = cell.finding(property);
            let _ = writeln!(out, "  - {property}: {}, {}", finding.answer, escape(&finding.because));
            for line in finding.evidence.iter().take(2) {
                let _ = writeln!(out, "    - {}", escape(&line.to_string()));
            }
        }
    }
    for missing in &matrix.missing {
        let _ = writeln!(
            out,
            "- **{}**: declared, but {}",
            escape(&missing.edge),
            escape(&missing.because)
        );
    }
    let undeclared: Vec<&Cell> = matrix.open_undeclared().collect();
    if !undeclared.is_empty() {
        let _ = writeln!(out, "\n{two} Open, though nobody declares it\n");
    }
    for cell in undeclared {
        let proof = cell
            .reachable
            .evidence
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "- {} ({}): {}",
            escape(&matrix.edge(cell)),
            cell.mark().means(),
            escape(&proof)
        );
    }
    if !matrix.notes.is_empty() {
        let _ = writeln!(out, "\n{two} Notes\n");
    }
    for note in &matrix.notes {
        let _ = writeln!(out, "- {}", escape(note));
    }
    out
}

fn grid(matrix: &Matrix, out: &mut String) {
    let targets = targets(matrix);
    if targets.is_empty() {
        let _ = writeln!(out, "No workload has a port that is known.\n");
        return;
    }
    let heads = targets
        .iter()
        .map(|(name, port, _)| format!("{}:{port}", escape(&matrix.short(name))));
    let _ = writeln!(out, "| from \\ to | {} |", heads.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(targets.len()));
    for workload in &matrix.workloads {
        let cells = targets.iter().map(|(to, port, _)| {
            at(matrix, &workload.name, to, *port).map_or_else(|| ".".to_owned(), |cell| escape(&letters(cell)))
        });
        let name = escape(&matrix.short(&workload.name));
        let _ = writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let legend = marks(matrix)
        .into_iter()
        .map(|mark| format!("{} {}", mark.letter(), mark.means()));
    let _ = writeln!(out, "\n{}, &#42; declared\n", legend.collect::<Vec<_>>().join(", "));
}

fn rules(level: &LevelReport, out: &mut String) {
    let _ = writeln!(out, "| level | asks | holds | why |\n|---|---|---|---|");
    for rule in &level.rules {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            rule.level,
            escape(&rule.asks),
            rule.holds,
            escape(&rule.standing())
        );
    }
    out.push('\n');
}
