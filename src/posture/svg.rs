//! The topology as a picture: declared calls from left to right, and what is open beside them.
//!
//! An edge's meaning is in its letter, its dashes and its title, not in its colour alone.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    html::escape,
    model::{Cell, Mark, Matrix, Name, Reach},
};

/// A box's size, and the space between boxes.
const BOX: (f64, f64) = (150.0, 44.0);
const SPACE: (f64, f64) = (120.0, 46.0);
const MARGIN: f64 = 30.0;
/// Room above the boxes for edges that are lifted over them.
const ABOVE: f64 = 84.0;
/// The most undeclared edges that are drawn; a picture of more shows nothing.
const UNDECLARED: usize = 60;
/// The most workloads that are drawn.
const WORKLOADS: usize = 60;
/// Characters of a name that fit a box.
const NAME: usize = 18;

/// Colours for a light and a dark screen; the classes are those of [`Mark::as_str`].
pub(super) const STYLE: &str = "\
.posture{--ink:#1b1f24;--paper:#fff;--box:#f3f4f6;--line:#6b7280;--readable:#b42318;--open:#a15c07;--encrypted:#175cd3;--mutual:#067647;--refused:#6b7280;--undetermined:#6941c6}\
@media(prefers-color-scheme:dark){.posture{--ink:#e6e8eb;--paper:#14171a;--box:#23272c;--line:#9aa3ad;--readable:#ff8a7a;--open:#f0b357;--encrypted:#84b6ff;--mutual:#5fd39a;--refused:#9aa3ad;--undetermined:#c4a8ff}}\
.posture text{font:13px system-ui,sans-serif;fill:var(--ink)}\
.posture .box{fill:var(--box);stroke:var(--line)}\
.posture .edge{fill:none;stroke-width:2.4}\
.posture .extra{stroke-width:1.2}\
.posture .badge{fill:var(--paper);stroke-width:1.4}\
.posture .letter{text-anchor:middle;font-weight:700;font-size:12px}\
.posture .small{font-size:11px}\
.posture .readable{stroke:var(--readable)}.posture .open{stroke:var(--open);stroke-dasharray:9 3}\
.posture .encrypted{stroke:var(--encrypted);stroke-dasharray:14 4}.posture .mutual{stroke:var(--mutual);stroke-width:4}\
.posture .refused{stroke:var(--refused);stroke-dasharray:2 5}.posture .undetermined{stroke:var(--undetermined);stroke-dasharray:6 4 1 4}";

/// Where each workload stands: its layer, and its place in the layer from the top.
type Places<'a> = BTreeMap<&'a Name, (usize, usize)>;

/// Layers by the longest way over declared calls; who has none stands in a row below, `None`.
fn layers(matrix: &Matrix) -> BTreeMap<&Name, Option<usize>> {
    let edges: Vec<(&Name, &Name)> = matrix
        .cells
        .iter()
        .filter(|cell| cell.declared == Some(true))
        .map(|cell| (&cell.from, &cell.to))
        .collect();
    let mut layers: BTreeMap<&Name, Option<usize>> = matrix.workloads.iter().map(|one| (&one.name, None)).collect();
    for (from, to) in &edges {
        for name in [*from, *to] {
            layers.insert(name, Some(0));
        }
    }
    // A cycle has no longest way: after as many rounds as there are workloads it is left as it is.
    for _ in 0..matrix.workloads.len() {
        let mut moved = false;
        for (from, to) in &edges {
            let next = layers[from].map(|layer| layer + 1);
            if layers[to] < next && next.is_some_and(|next| next < matrix.workloads.len()) {
                layers.insert(*to, next);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    layers
}

/// The picture as an SVG element.
pub fn svg(matrix: &Matrix) -> String {
    if matrix.workloads.len() > WORKLOADS {
        return format!("<p>{} workloads are too many to draw.</p>", matrix.workloads.len());
    }
    let layers = layers(matrix);
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: Places<'_> = BTreeMap::new();
    for (name, layer) in layers.iter().filter_map(|(name, layer)| Some((*name, (*layer)?))) {
        let row = rows.entry(layer).or_default();
        places.insert(name, (layer, *row));
        *row += 1;
    }
    let below = rows.values().copied().max().unwrap_or(0);
    let columns = rows.len().max(3);
    for (at, name) in layers
        .iter()
        .filter(|(_, layer)| layer.is_none())
        .map(|(name, _)| *name)
        .enumerate()
    {
        places.insert(name, (at % columns, below + at / columns));
    }
    let size = |count: usize, side: f64, space: f64| 2.0 * MARGIN + count as f64 * (side + space) - space;
    let wide = size(
        places.values().map(|place| place.0 + 1).max().unwrap_or(1),
        BOX.0,
        SPACE.0,
    );
    let high = size(
        places.values().map(|place| place.1 + 1).max().unwrap_or(1),
        BOX.1,
        SPACE.1,
    );
    let (declared, extra) = drawn(matrix);
    let over = declared.iter().chain(&extra).any(|cell| {
        let ends = places.get(&cell.from).zip(places.get(&cell.to));
        ends.is_some_and(|(from, to)| lifted(*from, *to))
    });
    let above = if over { ABOVE - MARGIN } else { 0.0 };
    // A page may hold several pictures, and an id is of one.
    let id = matrix.began_ns;
    let mut out = format!(
        "<svg class=\"posture\" role=\"img\" aria-labelledby=\"title-{id} desc-{id}\" viewBox=\"0 {} {wide} {}\" \
         width=\"{wide}\" xmlns=\"http://www.w3.org/2000/svg\">\n<title id=\"title-{id}\">Who reaches whom in {}</title>\n\
         <desc id=\"desc-{id}\">{}</desc>\n<style>{STYLE}</style>\n",
        -above,
        high + above,
        escape(&matrix.namespaces.join(", ")),
        escape(&described(matrix)),
    );
    arrows(id, &mut out);
    for (count, cell) in extra.iter().chain(&declared).enumerate() {
        edge(matrix, &places, cell, count, &mut out);
    }
    for (name, place) in &places {
        node(matrix, name, *place, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

/// The edges to draw: declared ones, and undeclared ones that are open as far as they fit.
fn drawn(matrix: &Matrix) -> (Vec<&Cell>, Vec<&Cell>) {
    let declared = matrix.cells.iter().filter(|cell| cell.declared == Some(true));
    let extra = matrix
        .cells
        .iter()
        .filter(|cell| cell.declared != Some(true) && cell.reach == Reach::Allowed);
    (declared.collect(), extra.take(UNDECLARED).collect())
}

/// The picture in words, for whoever cannot see it.
fn described(matrix: &Matrix) -> String {
    let (declared, extra) = drawn(matrix);
    let lines = declared
        .iter()
        .map(|cell| format!("{} is {}", matrix.edge(cell), cell.mark().as_str()));
    let mut words: Vec<String> = lines.collect();
    words.push(format!(
        "{} calls are open that nobody declares",
        matrix.open_undeclared().count()
    ));
    let refused = matrix.cells.iter().filter(|cell| cell.mark() == Mark::Refused).count();
    words.push(format!("{refused} are refused"));
    if extra.len() == UNDECLARED {
        words.push(format!("{UNDECLARED} of the undeclared calls are drawn"));
    }
    words.join("; ")
}

fn arrows(id: u64, out: &mut String) {
    out.push_str("<defs>\n");
    for mark in Mark::ALL {
        let class = mark.as_str();
        let _ = writeln!(
            out,
            "<marker id=\"to-{class}-{id}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" markerHeight=\"9\" \
             markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" fill=\"var(--{class})\"/></marker>"
        );
    }
    out.push_str("</defs>\n");
}

/// The upper left corner of a box.
fn corner((column, row): (usize, usize)) -> (f64, f64) {
    (
        MARGIN + column as f64 * (BOX.0 + SPACE.0),
        MARGIN + row as f64 * (BOX.1 + SPACE.1),
    )
}

fn node(matrix: &Matrix, name: &Name, place: (usize, usize), out: &mut String) {
    let (x, y) = corner(place);
    let ports = matrix.workloads.iter().find(|one| one.name == *name);
    let ports: Vec<String> = ports
        .iter()
        .flat_map(|one| &one.ports)
        .map(|port| format!(":{}", port.port))
        .collect();
    let full = matrix.short(name);
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"7\"/>\
         <text x=\"{}\" y=\"{}\">{}</text><text class=\"small\" x=\"{}\" y=\"{}\">{}</text></g>",
        escape(&full),
        BOX.0,
        BOX.1,
        x + 12.0,
        y + 19.0,
        escape(&crate::text::cut(&full, NAME)),
        x + 12.0,
        y + 35.0,
        escape(&crate::text::cut(&ports.join(" "), NAME)),
    );
}

/// Whether an edge would lie over boxes of its own row, or over the way there: it is lifted above them.
fn lifted(from: (usize, usize), to: (usize, usize)) -> bool {
    from.1 == to.1 && (from.0.abs_diff(to.0) > 1 || from.0 > to.0)
}

/// The way of an edge: out of one side of a box, into a side of the other, and where its letter stands.
fn way(from: (usize, usize), to: (usize, usize), count: usize) -> (String, (f64, f64)) {
    let ((ax, ay), (bx, by)) = (corner(from), corner(to));
    let forward = from.0 < to.0;
    let start = (if forward { ax + BOX.0 } else { ax }, ay + BOX.1 / 2.0);
    let end = (if forward { bx } else { bx + BOX.0 }, by + BOX.1 / 2.0);
    let (start, end, bend) = if from.0 == to.0 {
        // In one column: around the right side.
        let side = |x: f64, y: f64| (x + BOX.0, y + BOX.1 / 2.0);
        (side(ax, ay), side(bx, by), (SPACE.0 * 0.45, SPACE.0 * 0.45))
    } else {
        let reach = ((end.0 - start.0) / 2.0).clamp(-90.0, 90.0);
        (start, end, (reach, -reach))
    };
    let lift = if lifted(from, to) {
        -(24.0 + 18.0 * from.0.abs_diff(to.0).min(4) as f64 + (count % 4) as f64 * 4.0)
    } else {
        0.0
    };
    let (c1, c2) = ((start.0 + bend.0, start.1 + lift), (end.0 + bend.1, end.1 + lift));
    let t = [0.5, 0.38, 0.62, 0.3][count % 4];
    let u = 1.0 - t;
    let at = |a: f64, b: f64, c: f64, d: f64| u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d;
    let badge = (at(start.0, c1.0, c2.0, end.0), at(start.1, c1.1, c2.1, end.1));
    let path = format!(
        "M{:.1} {:.1}C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
        start.0, start.1, c1.0, c1.1, c2.0, c2.1, end.0, end.1
    );
    (path, badge)
}

fn edge(matrix: &Matrix, places: &Places<'_>, cell: &Cell, count: usize, out: &mut String) {
    let (Some(from), Some(to)) = (places.get(&cell.from), places.get(&cell.to)) else {
        return;
    };
    let declared = cell.declared == Some(true);
    let (mark, id) = (cell.mark(), matrix.began_ns);
    let class = mark.as_str();
    let (path, (x, y)) = way(*from, *to, if declared { 0 } else { count });
    let word = if declared { "declared" } else { "not declared" };
    let extra = if declared { "" } else { " extra" };
    let _ = writeln!(
        out,
        "<g><title>{}: {word}, {}</title><path class=\"edge {class}{extra}\" d=\"{path}\" marker-end=\"url(#to-{class}-{id})\"/>\
         <circle class=\"badge {class}\" style=\"stroke-dasharray:none\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"9\"/>\
         <text class=\"letter\" x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
        escape(&matrix.edge(cell)),
        mark.means(),
        y + 4.0,
        if declared {
            mark.letter().to_string()
        } else {
            format!("{}!", mark.letter())
        },
    );
}
