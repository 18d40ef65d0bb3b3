//! Where a session runs: ground, cluster, what its manifests become there, and the directories it keeps.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};

use super::world::WorldError;
use crate::{
    cluster::{
        self, ClusterError, Ground, GroundKind,
        manifests::{self, LAB_LABEL, OWNER_LABEL, Transform},
    },
    lab::{CheckKind, Lab},
};

/// A context of a kubeconfig that a lab is to run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextChoice {
    /// The context's name.
    pub name: String,
    /// The kubeconfigs to look for it in; absolute paths.
    pub kubeconfigs: Vec<PathBuf>,
    /// Put before the names of the lab's namespaces.
    #[serde(default)]
    pub prefix: String,
    /// A registry in the place of `ztlab.dev`.
    #[serde(default)]
    pub images: Option<String>,
}

/// Which ground a lab is to run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The ground.
    pub ground: GroundKind,
    /// The context, on the ground of that name.
    #[serde(default)]
    pub context: Option<ContextChoice>,
}

impl Choice {
    /// In words, as a student would choose it.
    pub fn told(&self) -> String {
        match &self.context {
            Some(context) => format!("the context `{}`", crate::text::one_line(&context.name)),
            None => format!("the {} ground", self.ground),
        }
    }

    /// What the manifests of a lab become there, for the student called `owner`.
    ///
    /// # Errors
    /// When the lab's topology is none, or the prefix makes no name of a namespace.
    pub fn transform(&self, lab: &Lab, owner: &str) -> Result<Transform, WorldError> {
        let Some(context) = &self.context else {
            return Ok(Transform::default());
        };
        let beyond = manifests::beyond(lab)?;
        if !beyond.is_empty() && !context.prefix.is_empty() {
            return Err(WorldError::new(format!(
                "the lab `{}` makes objects that a cluster has once ({}), and they cannot have a prefix",
                lab.id,
                manifests::told(&beyond)
            ))
            .hint("start it without --namespace-prefix; one session of it can run on a cluster at a time"));
        }
        let mut namespaces = manifests::namespaces(&objects(lab)?);
        namespaces.extend(manifests::namespaces(&beyond));
        namespaces.insert(lab.namespace.clone());
        for name in &namespaces {
            let whole = format!("{}{name}", context.prefix);
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if whole.len() > 63 || !whole.bytes().all(fits) || whole.starts_with('-') {
                return Err(WorldError::new(format!(
                    "`{}` makes no name of a namespace",
                    crate::text::one_line(&whole)
                ))
                .hint("use lower-case letters, digits and '-' for --namespace-prefix, as in ann-"));
            }
        }
        Ok(Transform {
            prefix: context.prefix.clone(),
            images: context.images.clone(),
            labels: [(LAB_LABEL, lab.id.as_str()), (OWNER_LABEL, owner)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            namespaces,
        })
    }
}

/// Where a session runs.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The ground, and what was chosen of it.
    pub choice: Choice,
    /// The cluster's name there.
    pub cluster: String,
    /// What the manifests become.
    pub transform: Transform,
    /// When the session began, which tells it from every other of this student.
    pub began_ms: u64,
    /// Where the session keeps its files.
    pub dir: PathBuf,
    /// The student's work directory.
    pub work: PathBuf,
}

impl Site {
    /// The ground.
    ///
    /// # Errors
    /// When this machine does not have it.
    pub fn ground(&self) -> Result<Box<dyn Ground>, ClusterError> {
        match &self.choice.context {
            Some(context) => Ok(cluster::contexts(
                context.kubeconfigs.clone(),
                Some(self.dir.join("kubeconfig")),
            )),
            None => cluster::ground(self.choice.ground),
        }
    }
}

/// The manifests of a lab's topology, layer by layer, as they are written.
///
/// # Errors
/// When there is no such layer.
pub fn objects(lab: &Lab) -> Result<Vec<DynamicObject>, WorldError> {
    let mut objects = Vec::new();
    for layer in &lab.topology {
        if let Some(file) = layer.strip_prefix("./") {
            let text = lab
                .files
                .get(file)
                .ok_or_else(|| WorldError::new(format!("there is no file `{file}` beside the lab")))?;
            objects.extend(manifests::parse(file, text)?);
            continue;
        }
        match manifests::built_in(layer) {
            Some(found) => objects.extend(found?),
            None => return Err(WorldError::new(format!("there is no topology `{layer}`"))),
        }
    }
    Ok(manifests::layered(objects))
}

/// The lab as it is where its manifests were transformed.
pub fn placed(mut lab: Lab, transform: &Transform) -> Lab {
    lab.namespace = transform.namespace(&lab.namespace);
    for step in &mut lab.steps {
        step.instructions = transform.text(&step.instructions);
        for hint in &mut step.hints {
            hint.text = transform.text(&hint.text);
        }
        for check in &mut step.checks {
            if let CheckKind::Object(object) = &mut check.kind {
                object.namespace = object.namespace.take().map(|name| transform.namespace(&name));
            }
        }
    }
    lab
}

/// This student's mark on clusters that others use too; made once, by chance.
///
/// # Errors
/// When it cannot be read or written.
pub fn owner(sessions: &Path) -> io::Result<String> {
    let path = sessions.join("owner");
    match fs::read_to_string(&path) {
        Ok(text) if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(text),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let owner = format!("{:016x}", rand::random::<u64>());
    super::write(&path, owner.as_bytes())?;
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> Lab {
        let found = crate::catalog::find("wiretap", None).unwrap();
        found.load(&crate::session::Topologies).unwrap()
    }

    fn choice(prefix: &str) -> Choice {
        Choice {
            ground: GroundKind::Context,
            context: Some(ContextChoice {
                name: "x".to_owned(),
                prefix: prefix.to_owned(),
                ..ContextChoice::default()
            }),
        }
    }

    #[test]
    fn on_the_embedded_ground_nothing_is_changed() {
        let transform = Choice::default().transform(&lab(), "me").unwrap();
        assert_eq!(transform, Transform::default());
        assert_eq!(placed(lab(), &transform).namespace, "shop");
    }

    #[test]
    fn a_prefix_names_the_namespace_for_checks_and_for_the_student() {
        let transform = choice("ann-").transform(&lab(), "me").unwrap();
        let placed = placed(lab(), &transform);
        assert_eq!(placed.namespace, "ann-shop");
        assert!(placed.steps[0].instructions.contains("kubectl get pods -n ann-shop"));
        assert_eq!(transform.labels[OWNER_LABEL], "me");
        for bad in ["-", "Ann-", "a b", &"x".repeat(63)] {
            assert!(choice(bad).transform(&lab(), "me").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_lab_makes_is_all_of_its_layers_but_its_own_namespace() {
        let found = crate::catalog::find("spiffe-mtls", None).unwrap();
        let lab = found.load(&crate::session::Topologies).unwrap();
        let beyond = manifests::beyond(&lab).unwrap();
        let name = |object: &DynamicObject| {
            assert_eq!(object.metadata.namespace, None);
            let kind = object.types.as_ref().unwrap().kind.clone();
            format!("{kind} {}", object.metadata.name.as_ref().unwrap())
        };
        let names: Vec<String> = beyond.iter().map(name).collect();
        for name in [
            "Namespace spire",
            "CSIDriver csi.spiffe.io",
            "ClusterSPIFFEID shop",
            "ClusterRole spire-agent",
        ] {
            assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
        }
        assert!(!names.contains(&"Namespace shop".to_owned()), "{names:?}");
        assert!(choice("").transform(&lab, "me").unwrap().namespaces.contains("spire"));
        let refused = choice("ann-").transform(&lab, "me").unwrap_err();
        assert!(refused.message.contains("cannot have a prefix"), "{refused}");
    }

    #[test]
    fn a_student_keeps_the_mark() {
        let temp = tempfile::tempdir().unwrap();
        let one = owner(temp.path()).unwrap();
        assert_eq!(owner(temp.path()).unwrap(), one);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(owner(other.path()).unwrap(), one);
    }
}
