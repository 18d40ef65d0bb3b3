//! The labs that can be started, and how far the student came in each.

use std::{path::Path, sync::Arc};

use kube::core::DynamicObject;

use crate::{
    catalog::{self, CatalogError, Found},
    cluster::manifests,
    lab::{Lab, Layer, Manifests},
    score::Score,
    session::{command::Refusal, journal, snapshot::LabSummary, state::State},
};

/// Reads manifests for the lab room: those that ship, and those beside a lab.
pub struct Topologies;

impl Manifests for Topologies {
    fn layer(&self, name: &str) -> Option<Layer> {
        Some(made_by(&manifests::built_in(name)?.ok()?))
    }

    fn read(&self, file: &str, text: &str) -> Result<Layer, String> {
        match manifests::parse(file, text) {
            Ok(objects) => Ok(made_by(&objects)),
            Err(error) => Err(crate::text::one_line(&error.to_string())),
        }
    }
}

/// What objects make, as far as a lab names it.
fn made_by(objects: &[DynamicObject]) -> Layer {
    let mut layer = Layer::default();
    for object in objects {
        let Some((kind, name)) = object.types.as_ref().zip(object.metadata.name.clone()) else {
            continue;
        };
        match kind.kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" | "Pod" => {
                layer.workloads.insert(name);
            }
            "Service" => {
                let ports = object.data["spec"]["ports"].as_array();
                let ports = ports.into_iter().flatten().filter_map(|port| port["port"].as_u64());
                let ports = ports.filter_map(|port| u16::try_from(port).ok());
                layer.services.entry(name).or_default().extend(ports);
            }
            "NetworkPolicy" => layer.policies = true,
            _ => {}
        }
    }
    layer
}

/// What a face is told of a lab that cannot be had.
pub fn refusal(error: CatalogError) -> Refusal {
    Refusal {
        hint: error.hint(),
        message: error.to_string(),
    }
}

/// Every lab.
pub fn summaries(dir: &Path, cwd: Option<&Path>) -> Vec<LabSummary> {
    catalog::all(cwd).into_iter().map(|found| summary(dir, found)).collect()
}

fn summary(dir: &Path, found: Found) -> LabSummary {
    match found.load(&Topologies) {
        Ok(lab) => LabSummary {
            id: found.id.clone(),
            title: lab.title.clone(),
            level: lab.level,
            minutes: lab.minutes,
            difficulty: lab.difficulty.as_str().to_owned(),
            objectives: lab.objectives.clone(),
            before: before(&lab),
            steps: lab.steps.len(),
            score: score(dir, &found, lab),
            source: found.source,
            broken: None,
        },
        Err(error) => LabSummary {
            title: found.id.clone(),
            id: found.id,
            level: 0,
            minutes: 0,
            difficulty: String::new(),
            objectives: Vec::new(),
            before: Vec::new(),
            steps: 0,
            source: found.source,
            score: None,
            broken: Some(error.to_string()),
        },
    }
}

/// What a student needs before a lab.
fn before(lab: &Lab) -> Vec<String> {
    let tools = lab
        .host_tools
        .iter()
        .map(|tool| format!("The program `{tool}` on your machine"));
    lab.prerequisites
        .iter()
        .map(|one| first_capital(&one.to_string()))
        .chain(tools)
        .collect()
}

fn first_capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// The score of the last run, if it was of this very lab.
fn score(dir: &Path, found: &Found, lab: Lab) -> Option<Score> {
    let (header, events, _) = journal::read(&dir.join(&found.id).join("journal.jsonl")).ok()??;
    if header.hash != found.hash() {
        return None;
    }
    let mut state = State::new(Arc::new(lab));
    for event in &events {
        state.apply(event);
    }
    Some(state.score())
}
