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

use std::collections::{BTreeMap, BTreeSet};

pub use self::lint::Lint;
use self::place::Places;
use super::{
    Layer, Problem, Surroundings,
    error::{did_you_mean, one_of},
    model::{Capability, Difficulty, Edge, Hint, Lab, LabId, Opens, Prerequisite, Step, StepId, Workload},
    raw::{RawEdge, RawHint, RawLab, RawStep, Spanned, Text},
};
use crate::{score::Points, verdict::Finding};

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

    fn topology(&mut self, raw: &Spanned<Vec<Text>>) -> Vec<String> {
        if raw.value.is_empty() {
            self.places
                .report(raw, "a lab starts from at least one topology layer")
                .expected("`[flat]`, and what is added to it");
        }
        let mut layers = Vec::new();
        let mut policies = false;
        for layer in &raw.value {
            if layer.value.starts_with("./") || layer.value.contains('/') {
                // What the files make is known already: see `files`.
                let files = self.files(layer);
                let read = |file: &String| self.among.manifests.read(file, &self.among.files[file]);
                policies |= files
                    .iter()
                    .filter_map(|file| read(file).ok())
                    .any(|layer| layer.policies);
                layers.extend(files.into_iter().map(|file| format!("./{file}")));
                continue;
            }
            match self.among.manifests.layer(&layer.value) {
                Some(found) => {
                    policies |= found.policies;
                    self.known.extend(found);
                    layers.push(layer.value.clone());
                }
                None => self.unknown_layer(layer),
            }
        }
        self.open_network = !policies;
        layers
    }

    pub(super) fn unknown_layer(&mut self, layer: &Text) {
        let message = format!("there is no topology `{}`", crate::text::one_line(&layer.value));
        self.places
            .report(layer, message)
            .expected("the name of a directory of manifests, as `flat`, or `./file.yaml` beside the lab");
    }

    /// Reports a port that no Service of this name has.
    pub(super) fn port(&mut self, to: &str, port: &Spanned<u16>) {
        // A pod of its own has no Service, and any port.
        let Some(ports) = self.known.services.get(to) else {
            return;
        };
        if !ports.is_empty() && !ports.contains(&port.value) {
            let known: Vec<String> = ports.iter().map(u16::to_string).collect();
            self.places
                .report(port, format!("the Service `{to}` has no port {}", port.value))
                .expected(one_of(known.iter().map(String::as_str)));
        }
    }

    /// The manifests beside the lab that a path in its file means, in the order they are to be applied; none where the
    /// path is wrong, which is reported.
    pub(super) fn files(&mut self, path: &Text) -> Vec<String> {
        match self.among.find(&path.value) {
            Ok(found) => {
                self.used.extend(found.iter().cloned());
                found
            }
            Err(no) => {
                let report = self.places.report(path, no.message).expected(no.expected);
                if let Some(hint) = no.hint {
                    report.hint(hint);
                }
                Vec::new()
            }
        }
    }

    /// Reads every manifest beside the lab: what any of them makes may be named.
    fn read_files(&mut self) {
        for (file, text) in self.among.files {
            match self.among.manifests.read(file, text) {
                Ok(layer) => self.known.extend(layer),
                Err(why) => self.places.beside(file, format!("this is no manifest: {why}")).done(),
            }
        }
    }

    fn edge(&mut self, raw: &RawEdge) -> Option<Edge> {
        let (from, to) = (self.workload(&raw.from), self.workload(&raw.to));
        let port = self.within(&raw.port, 1, u16::MAX, "a port");
        if let Some(to) = &to {
            self.port(to.as_str(), &raw.port);
        }
        let path = raw.path.as_ref().map(|path| self.edge_path(path));
        let method = raw.method.as_ref().map(|method| self.method(method));
        Some(Edge {
            from: from?,
            to: to?,
            port: port?,
            path,
            method,
        })
    }

    fn edge_path(&mut self, raw: &Text) -> String {
        if !raw.value.starts_with('/') {
            self.places
                .report(raw, format!("`{}` is no path", crate::text::one_line(&raw.value)))
                .expected("a path from `/` on, as `/charge`");
        }
        self.line(raw)
    }

    fn method(&mut self, raw: &Text) -> String {
        let method = raw.value.as_str();
        if method.is_empty() || method.len() > 16 || !method.chars().all(|c| c.is_ascii_uppercase()) {
            self.places
                .report(raw, format!("`{}` is no HTTP method", crate::text::one_line(method)))
                .expected("a method in capital letters, as `POST`");
        }
        self.line(raw)
    }

    fn clusters(&mut self, raw: Option<&Spanned<Vec<Text>>>) -> Vec<String> {
        let Some(raw) = raw else {
            return vec!["main".to_owned()];
        };
        if raw.value.len() != 1 {
            self.places
                .report(raw, format!("the lab wants {} clusters", raw.value.len()))
                .expected("one cluster")
                .hint("labs of several clusters are not possible yet");
        }
        raw.value.iter().filter_map(|name| self.name(name)).collect()
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

    fn steps(&mut self, raw: &Spanned<Vec<RawStep>>) -> Option<Vec<Step>> {
        if raw.value.is_empty() {
            self.places
                .report(raw, "the lab has no steps")
                .expected("at least one step");
        }
        self.few(raw, "steps");
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, step) in raw.value.iter().enumerate() {
            if let Some(first) = index.get(step.id.value.as_str()).copied() {
                let line = raw.value[first].id.at.line;
                self.places
                    .report(
                        &step.id,
                        format!("a second step is called `{}`", crate::text::one_line(&step.id.value)),
                    )
                    .expected("an id that no other step has")
                    .hint(format!("the first one is on line {line}"));
            } else {
                index.insert(&step.id.value, at);
            }
        }
        let needs: Vec<Vec<usize>> = raw.value.iter().map(|step| self.needs(step, &index)).collect();
        self.no_cycle(&raw.value, &needs);
        let total: u64 = raw.value.iter().map(|step| u64::from(step.points.value)).sum();
        // Points that are missing or no number were reported.
        let known = raw.value.iter().all(|step| step.points.at.line > 0);
        if total != 100 && !raw.value.is_empty() && known {
            self.places
                .report(raw, format!("the points of the steps sum to {total}"))
                .expected("100");
        }
        let steps: Vec<Option<Step>> = raw
            .value
            .iter()
            .zip(needs)
            .map(|(step, needs)| self.step(step, needs))
            .collect();
        steps.into_iter().collect()
    }

    fn needs(&mut self, step: &RawStep, index: &BTreeMap<&str, usize>) -> Vec<usize> {
        let mut needs = Vec::new();
        for need in &step.needs {
            match index.get(need.value.as_str()) {
                Some(at) => needs.push(*at),
                None => {
                    let known: Vec<&str> = index.keys().copied().filter(|id| *id != step.id.value).collect();
                    self.unknown(need, "step", &known);
                }
            }
        }
        needs
    }

    /// Reports every step that can never be opened because it needs, in the end, itself.
    fn no_cycle(&mut self, steps: &[RawStep], needs: &[Vec<usize>]) {
        let mut open: BTreeSet<usize> = BTreeSet::new();
        loop {
            let before = open.len();
            for (at, needs) in needs.iter().enumerate() {
                if needs.iter().all(|need| open.contains(need)) {
                    open.insert(at);
                }
            }
            if open.len() == before {
                break;
            }
        }
        for (at, step) in steps.iter().enumerate() {
            if open.contains(&at) {
                continue;
            }
            let waits: Vec<&str> = needs[at]
                .iter()
                .filter(|need| !open.contains(need))
                .map(|need| steps[*need].id.value.as_str())
                .collect();
            let place = step
                .needs
                .iter()
                .find(|need| waits.contains(&need.value.as_str()))
                .unwrap_or(&step.id);
            self.places
                .report(
                    place,
                    format!(
                        "the step `{}` can never be opened",
                        crate::text::one_line(&step.id.value)
                    ),
                )
                .expected("steps that need earlier ones, and no ring of them")
                .hint(format!("it waits for {}, which waits in turn", one_of(waits)));
        }
    }

    fn step(&mut self, raw: &RawStep, needs: Vec<usize>) -> Option<Step> {
        let id = self.name(&raw.id).map(StepId);
        let points = self.within(&raw.points, 0, 100, "points");
        if raw.checks.value.is_empty() {
            self.places
                .report(&raw.checks, "the step has no checks")
                .expected("at least one check");
        }
        self.few(&raw.checks, "checks");
        let mut names = BTreeSet::new();
        for check in &raw.checks.value {
            if !names.insert(check.value.name.value.as_str()) {
                self.places
                    .report(&check.value.name, "a second check of this step has this name")
                    .expected("a name that no other check of the step has");
            }
        }
        let known: Vec<&str> = raw
            .checks
            .value
            .iter()
            .map(|check| check.value.name.value.as_str())
            .collect();
        let checks: Vec<_> = raw.checks.value.iter().map(|check| self.check(check)).collect();
        self.lint_step(raw, &checks);
        let hints: Vec<_> = raw.hints.iter().map(|hint| self.hint(hint, &known)).collect();
        let solution: Vec<_> = raw
            .solution
            .iter()
            .map(|action| self.action(action, &raw.checks.value))
            .collect();
        let wrong: Vec<_> = raw
            .wrong
            .iter()
            .map(|attempt| self.attempt(&attempt.value, raw))
            .collect();
        for (count, what) in [
            (raw.hints.len(), "hints"),
            (raw.solution.len(), "actions"),
            (raw.wrong.len(), "attempts"),
        ] {
            if count > MOST {
                self.places
                    .report(&raw.id, format!("the step has {count} {what}"))
                    .expected(format!("at most {MOST}"));
            }
        }
        Some(Step {
            id: id?,
            title: self.line(&raw.title),
            points: Points(points?),
            needs,
            capabilities: self.step_capabilities(raw),
            vantage: raw.vantage.as_ref().map(|text| self.text(text)),
            instructions: self.markdown(&raw.instructions),
            checks: checks.into_iter().collect::<Option<_>>()?,
            hints: hints.into_iter().collect::<Option<_>>()?,
            teaches: raw.teaches.as_ref().map(|text| self.markdown(text)),
            solution: solution.into_iter().collect::<Option<_>>()?,
            wrong: wrong.into_iter().collect::<Option<_>>()?,
        })
    }

    fn hint(&mut self, raw: &Spanned<RawHint>, checks: &[&str]) -> Option<Hint> {
        let text = self.markdown(&raw.value.text);
        let opens = match (&raw.value.when, &raw.value.cost) {
            (Some(when), None) => {
                let check = self.check_named(&when.check, checks);
                let finding = self.named(&when.found, Finding::ALL);
                Opens::When {
                    check: check?,
                    finding: finding?,
                    asked: when.asked.unwrap_or(false),
                }
            }
            (None, Some(cost)) => Opens::Asked(Points(self.within(cost, 0, 100, "points")?)),
            _ => {
                self.places
                    .report(raw, "it is not clear when this hint opens")
                    .expected("exactly one of `when` (opens by itself) and `cost` (opens when asked for)");
                return None;
            }
        };
        Some(Hint { text, opens })
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
