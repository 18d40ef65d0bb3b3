//! Two measurements side by side: what became of each edge.

use serde::{Deserialize, Serialize};

use super::model::{Cell, Mark, Matrix, Name};

/// What an edge was, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The edge, as it is now where it is still there.
    pub edge: String,
    /// Whether the application declares it, in either measurement.
    pub declared: bool,
    /// What it was; `None` where it was not there.
    pub before: Option<Mark>,
    /// What it is; `None` where it is gone.
    pub after: Option<Mark>,
}

impl Change {
    /// Whether it is the same as before.
    pub fn is_same(&self) -> bool {
        self.before == self.after
    }
}

/// Every edge of two measurements, in the order of the later one.
pub fn diff(before: &Matrix, after: &Matrix) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut seen: Vec<&Cell> = Vec::new();
    for cell in &after.cells {
        let earlier = counterpart(cell, after, before);
        seen.extend(earlier);
        changes.push(Change {
            edge: after.edge(cell),
            declared: cell.declared == Some(true) || earlier.is_some_and(|cell| cell.declared == Some(true)),
            before: earlier.map(Cell::mark),
            after: Some(cell.mark()),
        });
    }
    let gone = before.cells.iter().filter(|cell| !seen.contains(cell));
    changes.extend(gone.map(|cell| Change {
        edge: before.edge(cell),
        declared: cell.declared == Some(true),
        before: Some(cell.mark()),
        after: None,
    }));
    changes
}

/// The cell that a cell of `here` was in `there`: at the same port, or at the only one that is not there any more (a
/// Service's port changes when TLS comes in).
fn counterpart<'a>(cell: &Cell, here: &Matrix, there: &'a Matrix) -> Option<&'a Cell> {
    let same = there
        .cells
        .iter()
        .find(|other| other.from == cell.from && other.to == cell.to && other.port == cell.port);
    if same.is_some() {
        return same;
    }
    let (new, old) = (only(cell, here, there)?, only(cell, there, here)?);
    (new.port == cell.port).then_some(old)
}

/// The only cell of a pair, for the same purpose, in `of` that `other` does not have.
fn only<'a>(like: &Cell, of: &'a Matrix, other: &Matrix) -> Option<&'a Cell> {
    let alike = |cell: &&Cell| cell.from == like.from && cell.to == like.to && cell.purpose == like.purpose;
    let there = |from: &Name, to: &Name, port: u16| {
        let mut cells = other.cells.iter();
        cells.any(|cell| cell.from == *from && cell.to == *to && cell.port == port)
    };
    let mut cells = of
        .cells
        .iter()
        .filter(alike)
        .filter(|cell| !there(&cell.from, &cell.to, cell.port));
    let first = cells.next()?;
    cells.next().is_none().then_some(first)
}
