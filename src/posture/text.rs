//! A matrix as text for a terminal. No colours: letters carry the meaning.

use std::time::Duration;

use super::{
    level::{Level, LevelReport},
    model::{Answer, Cell, DeclaredBy, Mark, Matrix, Name, Property, Purpose},
    words,
};
use crate::text::{cut, one_line, width};

/// Evidence lines of a declared call.
const LINES: usize = 2;

/// The columns of the grid: who is called, at which port.
pub(super) fn targets(matrix: &Matrix) -> Vec<(&Name, u16, Purpose)> {
    let ports = |workload: &'_ super::WorkloadView| -> Vec<(u16, Purpose)> {
        workload.ports.iter().map(|port| (port.port, port.purpose)).collect()
    };
    matrix
        .workloads
        .iter()
        .flat_map(|workload| {
            ports(workload)
                .into_iter()
                .map(move |(port, purpose)| (&workload.name, port, purpose))
        })
        .collect()
}

/// The cell of a row and a column.
pub(super) fn at<'a>(matrix: &'a Matrix, from: &Name, to: &Name, port: u16) -> Option<&'a Cell> {
    let mut cells = matrix.cells.iter();
    cells.find(|cell| cell.from == *from && cell.to == *to && cell.port == port)
}

/// What is said first.
pub(super) fn title(matrix: &Matrix, level: &LevelReport) -> String {
    let level = match level.level {
        Level::Unknown => "level unknown".to_owned(),
        Level::Is(level) => format!("level {level}"),
    };
    format!("Posture of {}: {level}", matrix.namespaces.join(", "))
}

/// When, how much, how long, by whose declaration.
pub(super) fn facts(matrix: &Matrix) -> String {
    let took = Duration::from_millis(matrix.took_ms).as_secs_f64();
    let declared = match matrix.declared_by {
        DeclaredBy::Nobody => "no call is declared",
        DeclaredBy::Annotations => "calls declared by the Services",
        DeclaredBy::Given => "calls declared by the lab or file",
    };
    format!(
        "{} workloads, {} cells, {declared}; measured {} in {took:.1} s",
        matrix.workloads.len(),
        matrix.cells.len(),
        words::moment(matrix.began_ns)
    )
}

/// How a cell stands in a grid: its letter, and a star where the call is declared.
pub(super) fn letters(cell: &Cell) -> String {
    let star = if cell.declared == Some(true) { "*" } else { "" };
    format!("{}{star}", cell.mark().letter())
}

/// The marks that a matrix has, in order.
pub(super) fn marks(matrix: &Matrix) -> Vec<Mark> {
    let mut marks: Vec<Mark> = matrix.cells.iter().map(Cell::mark).collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// A declared call's properties in words.
pub(super) fn properties(cell: &Cell) -> String {
    let said = |property: Property, word: &str| match cell.answer(property) {
        Answer::Yes => word.to_owned(),
        Answer::No => format!("not {word}"),
        Answer::Undetermined => format!("{word}: undetermined"),
    };
    let credential = |side: &str, shown: &Option<super::Credential>| {
        shown.as_ref().map(|shown| {
            let life = shown.lifetime().map(|life| format!(", lives {}", words::lasting(life)));
            let kind = shown.kind.one();
            format!("{side} shows {kind} ({}{})", shown.identity, life.unwrap_or_default())
        })
    };
    let mut parts = vec![
        cell.reach.as_str().to_owned(),
        said(Property::Readable, "readable"),
        said(Property::ServerAuthenticated, "server authenticated"),
        said(Property::ClientAuthenticated, "client authenticated"),
    ];
    parts.extend(credential("server", &cell.credentials.server));
    parts.extend(credential("client", &cell.credentials.client));
    parts.join(", ")
}

/// The whole of it, in lines of `columns` at most.
pub fn text(matrix: &Matrix, columns: usize) -> String {
    let level = matrix.level();
    let mut out = Vec::new();
    wrapped(&title(matrix, &level), "  ", columns, &mut out);
    wrapped(&facts(matrix), "  ", columns, &mut out);
    out.push(String::new());
    grid(matrix, columns, &mut out);
    legend(matrix, columns, &mut out);
    out.push(String::new());
    for rule in &level.rules {
        wrapped(&format!("Level {}: {}", rule.level, rule.asks), "  ", columns, &mut out);
        wrapped(
            &format!("  {}: {}", rule.holds, rule.standing()),
            "    ",
            columns,
            &mut out,
        );
    }
    let declared: Vec<&Cell> = matrix.cells.iter().filter(|cell| cell.declared == Some(true)).collect();
    if !declared.is_empty() {
        out.extend([String::new(), "Declared calls".to_owned()]);
    }
    for cell in declared {
        wrapped(
            &format!("{}: {}", matrix.edge(cell), properties(cell)),
            "    ",
            columns,
            &mut out,
        );
        let proof = cell.readable.evidence.iter().chain(&cell.reachable.evidence);
        for line in proof.take(LINES) {
            out.push(cut(&format!("      {}", one_line(&line.to_string())), columns));
        }
    }
    for missing in &matrix.missing {
        wrapped(
            &format!("{}: declared, but {}", missing.edge, missing.because),
            "    ",
            columns,
            &mut out,
        );
    }
    if !matrix.notes.is_empty() {
        out.push(String::new());
    }
    for note in &matrix.notes {
        wrapped(&format!("Note: {note}"), "  ", columns, &mut out);
    }
    let mut text = out.join("\n");
    text.push('\n');
    text
}

fn grid(matrix: &Matrix, columns: usize, out: &mut Vec<String>) {
    let targets = targets(matrix);
    if targets.is_empty() {
        out.push("No workload has a port that is known.".to_owned());
        return;
    }
    let names: Vec<String> = matrix
        .workloads
        .iter()
        .map(|one| one_line(&matrix.short(&one.name)))
        .collect();
    let first = names.iter().map(|name| width(name)).max().unwrap_or(0).clamp(9, 30);
    let head = |(name, port, purpose): &(&Name, u16, Purpose)| {
        let health = if *purpose == Purpose::Health { " (health)" } else { "" };
        [one_line(&matrix.short(name)), format!(":{port}{health}")]
    };
    let heads: Vec<[String; 2]> = targets.iter().map(head).collect();
    let wide = |heads: &[[String; 2]]| -> Vec<usize> {
        let of = |head: &[String; 2]| width(&head[0]).max(width(&head[1])) + 2;
        heads.iter().map(of).collect()
    };
    let fits = first + 2 + wide(&heads).iter().sum::<usize>() <= columns;
    // Too many for their names: numbers, with a key below.
    let shown: Vec<[String; 2]> = if fits {
        heads.clone()
    } else {
        (1..=heads.len())
            .map(|number| [format!("[{number}]"), String::new()])
            .collect()
    };
    let room = columns - first - 2;
    let widths = wide(&shown);
    let mut begin = 0;
    while begin < shown.len() {
        let (mut end, mut used) = (begin, 0);
        while end < shown.len() && (end == begin || used + widths[end] <= room) {
            used += widths[end];
            end += 1;
        }
        let line = |label: &str, cells: &mut dyn Iterator<Item = (String, usize)>| {
            let label = cut(label, first);
            let mut line = format!("{label}{}", " ".repeat(first + 2 - width(&label)));
            for (cell, wide) in cells {
                let space = wide.saturating_sub(width(&cell));
                line.push_str(&cell);
                line.push_str(&" ".repeat(space));
            }
            line.trim_end().to_owned()
        };
        for (part, label) in ["from \\ to", ""].iter().enumerate() {
            if fits || part == 0 {
                let mut heads = (begin..end).map(|at| (shown[at][part].clone(), widths[at]));
                out.push(line(label, &mut heads));
            }
        }
        for (workload, name) in matrix.workloads.iter().zip(&names) {
            let mut cells = (begin..end).map(|column| {
                let (to, port, _) = targets[column];
                let cell = at(matrix, &workload.name, to, port);
                (cell.map_or_else(|| ".".to_owned(), letters), widths[column])
            });
            out.push(line(name, &mut cells));
        }
        out.push(String::new());
        begin = end;
    }
    if !fits {
        for (number, head) in heads.iter().enumerate() {
            out.push(cut(&format!("  [{}] {}{}", number + 1, head[0], head[1]), columns));
        }
        out.push(String::new());
    }
}

fn legend(matrix: &Matrix, columns: usize, out: &mut Vec<String>) {
    let mut parts: Vec<String> = marks(matrix)
        .into_iter()
        .map(|mark| format!("{} {}", mark.letter(), mark.means()))
        .collect();
    if matrix.cells.iter().any(|cell| cell.declared == Some(true)) {
        parts.push("* declared".to_owned());
    }
    wrapped(&parts.join("; "), "", columns, out);
}

/// A line, broken between words where it is longer than `columns`.
fn wrapped(line: &str, indent: &str, columns: usize, out: &mut Vec<String>) {
    let line = crate::text::clean(line).replace('\n', " ");
    let lead: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut current = lead.clone();
    let mut empty = true;
    for word in line.split_whitespace() {
        if !empty && width(&current) + 1 + width(word) > columns {
            out.push(cut(&std::mem::replace(&mut current, indent.to_owned()), columns));
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    out.push(cut(current.trim_end(), columns));
}
