//! The labs that can be started, and how far the student came in each.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crate::{
    catalog::{self, CatalogError, Found},
    cluster::manifests,
    lab::Lab,
    score::Score,
    session::{command::Refusal, journal, snapshot::LabSummary, state::State},
};

/// The workloads of a topology layer: its Deployments, and pods of their own.
pub fn topologies(layer: &str) -> Option<BTreeSet<String>> {
    let objects = manifests::built_in(layer)?.ok()?;
    let workloads = objects.into_iter().filter_map(|object| {
        let kind = object.types.map(|types| types.kind)?;
        let runs = ["Deployment", "StatefulSet", "DaemonSet", "Pod"].contains(&kind.as_str());
        object.metadata.name.filter(|_| runs)
    });
    Some(workloads.collect())
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
    match found.load(&topologies) {
        Ok(lab) => LabSummary {
            id: found.id.clone(),
            title: lab.title.clone(),
            level: lab.level,
            minutes: lab.minutes,
            difficulty: lab.difficulty.as_str().to_owned(),
            objectives: lab.objectives.clone(),
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
            steps: 0,
            source: found.source,
            score: None,
            broken: Some(error.to_string()),
        },
    }
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
