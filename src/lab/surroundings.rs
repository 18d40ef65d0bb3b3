//! What a lab file is read among: the manifests of the topologies, and the files beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::error::did_you_mean;

/// What manifests make, as far as a lab names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The workloads: Deployments, StatefulSets, DaemonSets, and pods of their own.
    pub workloads: BTreeSet<String>,
    /// The Services, each with its ports.
    pub services: BTreeMap<String, BTreeSet<u16>>,
    /// Whether there are NetworkPolicies: without any, every pod reaches every other.
    pub policies: bool,
    /// What is in no namespace, or in one that is named.
    pub placed: BTreeSet<Placed>,
}

/// An object that does not follow the lab into its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; none where it belongs to the whole cluster.
    pub namespace: Option<String>,
}

impl Placed {
    /// Whether it is in this namespace, or is it.
    pub fn within(&self, namespace: &str) -> bool {
        match &self.namespace {
            Some(own) => own == namespace,
            None => self.kind == "Namespace" && self.name == namespace,
        }
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Layer {
    /// Adds what another layer makes.
    pub fn extend(&mut self, other: Layer) {
        self.policies |= other.policies;
        self.workloads.extend(other.workloads);
        self.placed.extend(other.placed);
        for (service, ports) in other.services {
            self.services.entry(service).or_default().extend(ports);
        }
    }
}

/// One layer for every name, whatever files say: for where there are no manifests to look into.
impl Manifests for Layer {
    fn layer(&self, _: &str) -> Option<Layer> {
        Some(self.clone())
    }

    fn read(&self, _: &str, _: &str) -> Result<Layer, String> {
        Ok(Layer::default())
    }
}

/// Knows what manifests make. The lab room itself reads no manifests.
pub trait Manifests {
    /// What a topology that ships makes (`flat`, …); `None` where there is none of that name.
    fn layer(&self, name: &str) -> Option<Layer>;

    /// What the manifests of a text make.
    ///
    /// # Errors
    /// Why the text is no manifest, in one line.
    fn read(&self, file: &str, text: &str) -> Result<Layer, String>;
}

/// What a lab file is read among.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Knows the topologies.
    pub manifests: &'a dyn Manifests,
    /// The YAML files beside the lab, by their path from its directory (`extra/policy.yaml`), with their text.
    pub files: &'a BTreeMap<String, String>,
}

/// Why a path that a lab file names is no file of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoFile {
    pub message: String,
    pub expected: String,
    pub hint: Option<String>,
}

/// No files beside a lab.
static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Surroundings<'a> {
    /// Among nothing but manifests.
    pub fn of(manifests: &'a dyn Manifests) -> Self {
        Self {
            manifests,
            files: &NOTHING,
        }
    }

    /// The files that a path of the lab file means, as their paths: one file, or every file of a directory, in the
    /// order of their names.
    ///
    /// # Errors
    /// When the path leads out of the lab's directory, or to nothing that is a manifest there.
    pub(super) fn find(&self, written: &str) -> Result<Vec<String>, NoFile> {
        let path = written.strip_prefix("./").unwrap_or(written).trim_end_matches('/');
        let shown = crate::text::one_line(written);
        let strange = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\\', '\0']);
        if path.split('/').any(strange) {
            return Err(NoFile {
                message: format!("`{shown}` leads out of the lab's directory"),
                expected: "a path from the lab's directory down, as `policy.yaml` or `extra/policy.yaml`".to_owned(),
                hint: Some("a lab can use only the files beside it".to_owned()),
            });
        }
        if self.files.contains_key(path) {
            return Ok(vec![path.to_owned()]);
        }
        let inside = format!("{path}/");
        let found: Vec<String> = self
            .files
            .keys()
            .filter(|file| file.starts_with(&inside))
            .cloned()
            .collect();
        if found.is_empty() {
            let hint = did_you_mean(path, self.files.keys().map(String::as_str));
            return Err(NoFile {
                message: format!("there is no manifest `{shown}` beside the lab"),
                expected: "a `.yaml` file in the lab's directory".to_owned(),
                hint: hint.map(|name| format!("did you mean `{name}`?")),
            });
        }
        Ok(found)
    }
}
