//! A matrix as one HTML page that needs nothing else: no script, no font, no address.

use std::fmt::Write;

use super::{
    level::{LevelReport, Rule},
    model::{Answer, Cell, Finding, Matrix, Property},
    svg,
    text::{at, facts, letters, marks, properties, targets, title},
    words,
};

/// Text that HTML shows as it is, also within an attribute: names are untrusted.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in crate::text::one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// How every page looks.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--soft:#f3f4f6;--line:#c9ced6}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#14171a;--soft:#23272c;--line:#3b424a}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{line-height:1.2}table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top}\
th{background:var(--soft)}figure{margin:1rem 0;overflow-x:auto}svg{max-width:100%;height:auto}code,pre{background:var(--soft);padding:.1rem .3rem}\
pre{overflow-x:auto;padding:.6rem}details{margin:.3rem 0}summary{cursor:pointer}.wide{overflow-x:auto}.level{font-size:1.3rem;font-weight:700}";

/// A page around `body`, which is HTML; `title` is text.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// The whole page.
pub fn html(matrix: &Matrix) -> String {
    let title = title(matrix, &matrix.level());
    page(&title, &format!("<h1>{}</h1>\n{}", escape(&title), body(matrix, 2)))
}

/// What stands on the page below its title; headings begin at `<h…>` of `depth`.
pub fn body(matrix: &Matrix, depth: u8) -> String {
    let level = matrix.level();
    let mut out = format!(
        "<p>{}.</p>\n<p class=\"level\">Level {}</p>\n<p>{}.</p>\n",
        escape(&facts(matrix)),
        level.level,
        escape(&level.because)
    );
    let _ = write!(out, "<figure>\n{}", svg::svg(matrix));
    let _ = writeln!(out, "<figcaption>{}</figcaption>\n</figure>", legend(matrix));
    grid(matrix, &mut out);
    let _ = writeln!(out, "<h{depth}>Levels</h{depth}>");
    rules(&level, &mut out);
    let _ = writeln!(out, "<h{depth}>Declared calls</h{depth}>");
    if !matrix.cells.iter().any(|cell| cell.declared == Some(true)) {
        out.push_str("<p>None.</p>\n");
    }
    for cell in matrix.cells.iter().filter(|cell| cell.declared == Some(true)) {
        cell_details(matrix, cell, true, &mut out);
    }
    for missing in &matrix.missing {
        let _ = writeln!(
            out,
            "<p><strong>{}</strong>: declared, but {}</p>",
            escape(&missing.edge),
            escape(&missing.because)
        );
    }
    let _ = writeln!(out, "<h{depth}>Every other cell</h{depth}>");
    for cell in matrix.cells.iter().filter(|cell| cell.declared != Some(true)) {
        cell_details(matrix, cell, false, &mut out);
    }
    if !matrix.notes.is_empty() {
        let _ = writeln!(out, "<h{depth}>Notes</h{depth}>\n<ul>");
        for note in &matrix.notes {
            let _ = writeln!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>\n");
    }
    out
}

fn legend(matrix: &Matrix) -> String {
    let mut parts: Vec<String> = marks(matrix)
        .into_iter()
        .map(|mark| format!("<strong>{}</strong> {}", mark.letter(), mark.means()))
        .collect();
    parts.push("<strong>!</strong> (thin) not declared".to_owned());
    parts.join(" · ")
}

fn grid(matrix: &Matrix, out: &mut String) {
    let targets = targets(matrix);
    out.push_str("<div class=\"wide\"><table>\n<tr><th scope=\"col\">from \\ to</th>");
    for (name, port, _) in &targets {
        let _ = write!(out, "<th scope=\"col\">{}:{port}</th>", escape(&matrix.short(name)));
    }
    out.push_str("</tr>\n");
    for workload in &matrix.workloads {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th>",
            escape(&matrix.short(&workload.name))
        );
        for (to, port, _) in &targets {
            match at(matrix, &workload.name, to, *port) {
                Some(cell) => {
                    let _ = write!(out, "<td>{} {}</td>", letters(cell), cell.mark().as_str());
                }
                None => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n<p>* declared</p>\n");
}

fn rules(level: &LevelReport, out: &mut String) {
    out.push_str(
        "<table>\n<tr><th scope=\"col\">level</th><th scope=\"col\">asks</th><th scope=\"col\">holds</th>\
         <th scope=\"col\">why</th></tr>\n",
    );
    for rule in &level.rules {
        let Rule { level, asks, holds, .. } = rule;
        let sign = match holds {
            Answer::Yes => "✓",
            Answer::No => "✗",
            Answer::Undetermined => "?",
        };
        let _ = writeln!(
            out,
            "<tr><td>{level}</td><td>{}</td><td>{sign} {holds}</td><td>{}</td></tr>",
            escape(asks),
            escape(&rule.standing())
        );
    }
    out.push_str("</table>\n");
}

fn cell_details(matrix: &Matrix, cell: &Cell, open: bool, out: &mut String) {
    let _ = writeln!(
        out,
        "<details{}><summary>{} <strong>{}</strong>: {}</summary>\n<ul>",
        if open { " open" } else { "" },
        cell.mark().letter(),
        escape(&matrix.edge(cell)),
        escape(&properties(cell))
    );
    for property in Property::ALL {
        let Finding {
            answer,
            because,
            evidence,
        } = cell.finding(property);
        let _ = write!(out, "<li>{property}: <strong>{answer}</strong>, {}", escape(because));
        if !evidence.is_empty() {
            out.push_str("\n<ul>");
            for line in evidence {
                let at = words::moment(line.at_ns);
                let _ = writeln!(out, "<li><code>{}</code> ({at})</li>", escape(&line.to_string()));
            }
            out.push_str("</ul>");
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ul></details>\n");
}
