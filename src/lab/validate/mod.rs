//! From what is written to what is valid: every rule that needs more than one value at a time.

mod action;
mod capability;
mod check;
mod deed;
mod lint;
mod look;
mod makes;
mod markdown;
mod named;
mod place;
mod question;
mod step;
mod topology;

use std::collections::BTreeSet;

pub use self::lint::Lint;
use self::place::Places;
use super::{
    Layer, Problem, Surroundings,
    error::{did_you_mean, one_of},
    model::{Capability, Difficulty, Edge, Lab, LabId, Prerequisite, Workload},
    raw::{RawLab, Spanned, Text},
};

/// The most steps a lab may have, and the most checks, hints, actions or attempts of a step.
const MOST: usize = 64;

/// Checks the lab as a whole, after what is known to be wrong with its shape; with `lint`, also by the rules for those
/// who write labs. The lab comes back where everything in it is there; with it everything that is wrong.
pub fn validate(
    text: &str,
    raw: &RawLab,
    problems: Vec<Problem>,
    among: Surroundings<'_>,
    lint: Option<Lint<'_>>,
) -> (Option<Lab>, Vec<Problem>) {
    let mut validator = Validator {
        places: Places::new(text, problems),
        among,
        lint,
        known: Layer::default(),
        used: BTreeSet::new(),
        open_network: false,
        host_tools: Vec::new(),
        edges: Vec::new(),
        measurable: false,
    };
    let lab = validator.lab(raw);
    validator.lint_lab(raw);
    (lab, validator.places.finish())
}

struct Validator<'a> {
    places: Places<'a>,
    among: Surroundings<'a>,
    /// What the topology and the manifests beside the lab make.
    known: Layer,
    /// The files beside the lab that it names.
    used: BTreeSet<String>,
    /// What only the linter knows.
    lint: Option<Lint<'a>>,
    /// No policy stands when the lab starts.
    open_network: bool,
    /// The programs that the student has.
    host_tools: Vec<String>,
    /// The declared calls: from whom, to whom.
    edges: Vec<(Text, Text)>,
    /// Whether those are enough to measure a network with.
    measurable: bool,
}

impl Validator<'_> {
    fn lab(&mut self, raw: &RawLab) -> Option<Lab> {
        self.fixed(&raw.api_version, "ztlab.dev/v1");
        self.fixed(&raw.kind, "Lab");
        let (metadata, spec) = (&raw.metadata, &raw.spec);
        let id = self.name(&metadata.name).map(LabId);
        let level = self.within(&metadata.level, 0, 4, "a zero trust level");
        let minutes = self.within(&metadata.minutes, 1, 600, "minutes");
        let difficulty = self.named(&metadata.difficulty, Difficulty::ALL);
        self.read_files();
        let topology = self.topology(&spec.topology);
        let capabilities = spec
            .needs
            .capabilities
            .iter()
            .filter_map(|capability| self.named(capability, Capability::BEFORE))
            .collect();
        let host_tools: Vec<String> = spec.needs.host_tools.iter().map(|tool| self.host_tool(tool)).collect();
        self.host_tools.clone_from(&host_tools);
        let clusters = self.clusters(spec.clusters.as_ref());
        let makes = self.makes(&spec.makes);
        let prerequisites = metadata
            .prerequisites
            .iter()
            .map(|text| self.prerequisite(text))
            .collect();
        let edges: Vec<Edge> = spec.edges.iter().filter_map(|edge| self.edge(edge)).collect();
        self.note_edges(&edges);
        let objectives = spec.objectives.iter().map(|text| self.line(text)).collect();
        self.edges = spec
            .edges
            .iter()
            .map(|edge| (edge.from.clone(), edge.to.clone()))
            .collect();
        self.applied_layers(&spec.steps.value);
        let steps = self.steps(&spec.steps);
        Some(Lab {
            id: id?,
            title: self.line(&metadata.title),
            level: level?,
            minutes: minutes?,
            difficulty: difficulty?,
            prerequisites,
            objectives,
            clusters,
            namespace: self.name(&spec.namespace)?,
            topology,
            files: self.among.files.clone(),
            capabilities,
            host_tools,
            makes: makes?,
            edges,
            steps: steps?,
            recap: spec.recap.as_ref().map(|text| self.markdown(text)),
        })
    }

    fn fixed(&mut self, found: &Text, expected: &str) {
        if found.value != expected {
            let message = format!("found `{}`", crate::text::one_line(&found.value));
            self.places
                .report(found, message)
                .expected(format!("`{expected}`"))
                .hint("this ztlab reads no other kind of file");
        }
    }

    fn prerequisite(&mut self, raw: &Text) -> Prerequisite {
        let line = self.line(raw);
        // An id is one word in small letters; whether there is such a lab is for who knows all labs.
        if is_name(&line) {
            Prerequisite::Lab(LabId(line))
        } else {
            Prerequisite::Words(line)
        }
    }

    /// A program's name: what can stand in a directory of `PATH`, and nothing else.
    fn host_tool(&mut self, raw: &Text) -> String {
        let name = raw.value.as_str();
        let letters = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.', '+'].contains(&c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(letters) || name.starts_with(['.', '-']) {
            self.places
                .report(raw, format!("`{}` is no program's name", crate::text::one_line(name)))
                .expected("a name without a path, as `openssl`");
        }
        self.line(raw)
    }

    fn few<T>(&mut self, list: &Spanned<Vec<T>>, what: &str) {
        if list.value.len() > MOST {
            self.places
                .report(list, format!("there are {} {what}", list.value.len()))
                .expected(format!("at most {MOST}"));
        }
    }

    /// The place of a check that a file names.
    fn check_named(&mut self, name: &Text, checks: &[&str]) -> Option<usize> {
        let found = checks.iter().position(|check| *check == name.value);
        if found.is_none() {
            self.unknown(name, "check of this step", checks);
        }
        found
    }

    fn workload(&mut self, name: &Text) -> Option<Workload> {
        if self.known.workloads.contains(&name.value) {
            return Some(Workload(name.value.clone()));
        }
        // Without any, the topology is what is wrong, and that was said.
        if !self.known.workloads.is_empty() {
            let known: Vec<String> = self.known.workloads.iter().cloned().collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            self.unknown(name, "workload in the topology", &known);
        }
        None
    }

    fn pair(&mut self, raw: &Spanned<Vec<Text>>) -> Option<(Workload, Workload)> {
        let [one, other] = raw.value.as_slice() else {
            self.places
                .report(raw, format!("there are {} workloads", raw.value.len()))
                .expected("two, as in `[orders-api, payments-api]`");
            return None;
        };
        let (one, other) = (self.workload(one), self.workload(other));
        Some((one?, other?))
    }

    fn named<T: Copy>(&mut self, text: &Text, all: &'static [(&'static str, T)]) -> Option<T> {
        if let Some((_, value)) = all.iter().find(|(name, _)| *name == text.value) {
            return Some(*value);
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        self.unknown(text, "value of this field", &names);
        None
    }

    fn unknown(&mut self, text: &Text, what: &str, known: &[&str]) {
        let message = format!("there is no {what} called `{}`", crate::text::one_line(&text.value));
        let hint = did_you_mean(&text.value, known.iter().copied()).map(|name| format!("did you mean `{name}`?"));
        let report = self
            .places
            .report(text, message)
            .expected(one_of(known.iter().copied()));
        if let Some(hint) = hint {
            report.hint(hint);
        }
    }

    fn within<T>(&mut self, value: &Spanned<T>, least: T, most: T, what: &str) -> Option<T>
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        if (least..=most).contains(&value.value) {
            return Some(value.value);
        }
        self.places
            .report(value, format!("{} is out of range", value.value))
            .expected(format!("{what}, {least} to {most}"));
        None
    }

    /// An id: a DNS label of RFC 1123.
    fn name(&mut self, text: &Text) -> Option<String> {
        let name = text.value.as_str();
        if is_name(name) {
            return Some(name.to_owned());
        }
        self.places
            .report(text, format!("`{}` is not a name", crate::text::one_line(name)))
            .expected("lower-case letters, digits and dashes, at most 32, as in `orders-api`");
        None
    }

    /// A text of several lines that a terminal can show as it is.
    fn text(&mut self, text: &Text) -> String {
        let strange = text
            .value
            .chars()
            .find(|c| *c != '\n' && *c != '\t' && crate::text::visible(*c) != *c);
        if let Some(strange) = strange {
            self.places
                .report(
                    text,
                    format!("the text holds the character U+{:04X}", u32::from(strange)),
                )
                .expected("text without terminal escapes or invisible characters")
                .hint("delete it: on a screen it could hide or move what stands around it");
        }
        if text.value.trim().is_empty() {
            self.places.report(text, "the text is empty").expected("words");
        }
        text.value.clone()
    }

    /// A text of one line.
    fn line(&mut self, text: &Text) -> String {
        if text.value.trim_end().contains('\n') {
            self.places
                .report(text, "the text has several lines")
                .expected("one line");
        }
        self.text(text).trim().to_owned()
    }
}

/// Whether a word is an id of this format.
fn is_name(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&name.len()) && name.chars().all(letters) && !name.starts_with('-') && !name.ends_with('-')
}
