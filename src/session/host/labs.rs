//! The labs that can be started, and how far the student came in each.

use std::{path::Path, sync::Arc};

use kube::core::DynamicObject;

use crate::{
    catalog::{self, CatalogError, Found},
    cluster::manifests,
    lab::{Difficulty, Lab, Layer, Manifests, Placed, Prerequisite, in_order},
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
        if object.metadata.namespace.is_some() || manifests::is_clusters(kind) {
            layer.placed.insert(Placed {
                kind: kind.kind.clone(),
                name: name.clone(),
                namespace: object.metadata.namespace.clone(),
            });
        }
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

/// Every lab, in the order in which to take them.
pub fn summaries(dir: &Path, cwd: Option<&Path>) -> Vec<LabSummary> {
    in_turn(catalog::all(cwd).into_iter().map(|found| summary(dir, found)).collect())
}

/// Labs in the order in which to take them: none before one that it lists as a prerequisite, then by level, the easier
/// and the shorter first. Of a broken lab nothing is known; they come last.
fn in_turn(labs: Vec<LabSummary>) -> Vec<LabSummary> {
    let place = |id: &String| labs.iter().position(|lab| lab.id == *id);
    let needs: Vec<Vec<usize>> = labs
        .iter()
        .map(|lab| lab.after.iter().filter_map(place).collect())
        .collect();
    let rank = |at: usize| {
        let lab: &LabSummary = &labs[at];
        let difficulty = Difficulty::ALL.iter().position(|(name, _)| *name == lab.difficulty);
        (lab.broken.is_some(), lab.level, difficulty, lab.minutes, lab.id.clone())
    };
    let order = in_order(&needs, rank);
    let mut labs: Vec<Option<LabSummary>> = labs.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| labs[at].take()).collect()
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
            after: after(&lab),
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
            after: Vec::new(),
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

/// The labs to have done before a lab.
fn after(lab: &Lab) -> Vec<String> {
    let lab_of = |one: &Prerequisite| match one {
        Prerequisite::Lab(id) => Some(id.to_string()),
        Prerequisite::Words(_) => None,
    };
    lab.prerequisites.iter().filter_map(lab_of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(labs: &[LabSummary]) -> Vec<&str> {
        labs.iter().map(|lab| lab.id.as_str()).collect()
    }

    #[test]
    fn labs_that_ship_are_listed_in_the_order_to_take_them() {
        let dir = tempfile::tempdir().unwrap();
        let labs = summaries(dir.path(), None);
        assert_eq!(
            ids(&labs),
            ["wiretap", "perimeter", "manual-mtls", "layers", "spire", "spiffe-mtls"]
        );
        assert_eq!(labs[3].after, ["perimeter", "manual-mtls"]);
    }

    #[test]
    fn no_lab_stands_before_one_that_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let write = |id: &str, level: u8, needs: &str| {
            let lab = dir.path().join("labs").join(id);
            std::fs::create_dir_all(&lab).unwrap();
            let wiretap = catalog::find("wiretap", None).unwrap().text;
            let text = wiretap.replace("name: wiretap", &format!("name: {id}"));
            let text = text.replace("level: 0", &format!("level: {level}"));
            let text = text.replace("    - Some practice with a shell\n", needs);
            std::fs::write(lab.join("lab.yaml"), text).unwrap();
        };
        // The first by id and level needs one of the last level.
        write("a", 0, "    - z\n    - gone\n");
        write("m", 1, "    - n\n");
        write("n", 2, "");
        write("z", 4, "");
        let broken = dir.path().join("labs/broken");
        std::fs::create_dir_all(&broken).unwrap();
        std::fs::write(broken.join("lab.yaml"), "kind: Lab\n").unwrap();
        let labs = summaries(dir.path(), Some(dir.path()));
        let mine: Vec<&str> = ids(&labs).into_iter().filter(|id| id.len() == 1).collect();
        assert_eq!(
            mine,
            ["n", "m", "z", "a"],
            "{:?}",
            labs.iter().map(|lab| &lab.broken).collect::<Vec<_>>()
        );
        // Nothing is known of it.
        assert_eq!(labs.last().unwrap().id, "broken");
    }
}
