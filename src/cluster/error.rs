//! What can go wrong with a cluster.

use std::{io, path::PathBuf};

/// Why something could not be done with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The name is no cluster name.
    #[error("{name:?} is not a cluster name: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is one of that name.
    #[error("a cluster named {name:?} already exists")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no cluster named {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is no context of that name.
    #[error("there is no context {name:?} in the kubeconfig")]
    NoContext {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// It has no process.
    #[error("the cluster {name:?} is stopped")]
    Stopped {
        /// The name.
        name: String,
    },
    /// Its directory is of another version, or damaged.
    #[error("the cluster {name:?} cannot be used: {reason}")]
    Unusable {
        /// The name.
        name: String,
        /// What is wrong with its directory.
        reason: String,
    },
    /// A snapshot could not be taken, found or put back.
    #[error("cluster {cluster:?}: {reason}")]
    Snapshot {
        /// The cluster.
        cluster: String,
        /// Why.
        reason: String,
    },
    /// No such ground here.
    #[error("there is no ground named {name:?} on this machine")]
    NoSuchGround {
        /// The ground's name.
        name: String,
    },
    /// The ground cannot do that.
    #[error("a cluster of the ground {ground} cannot be {action} by ztlab")]
    Unsupported {
        /// The ground.
        ground: super::GroundKind,
        /// What was asked, as a participle.
        action: &'static str,
    },
    /// This machine does not let the cluster start.
    #[error("the cluster {name:?} cannot start here: {reason}")]
    Refused {
        /// The cluster.
        name: String,
        /// What was refused.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The node process did not start.
    #[error("the node of cluster {name:?} did not start: {reason}")]
    NodeFailed {
        /// The cluster.
        name: String,
        /// What it said last.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// It did not get there in time.
    #[error("{what} is not ready after {seconds} s: {state}")]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// What it was last seen as.
        state: String,
    },
    /// It belongs to somebody else.
    #[error("{what} on {cluster:?} was not made by this session, and is not touched")]
    NotOurs {
        /// The cluster.
        cluster: String,
        /// What, with its article.
        what: String,
    },
    /// What a lab makes is there already, and somebody else's.
    #[error(
        "the lab makes what is somebody else's on {cluster:?}, and touches none of it: {}",
        some(objects)
    )]
    Clash {
        /// The cluster.
        cluster: String,
        /// Each object, and whose it is where that can be told.
        objects: Vec<String>,
        /// Whether a prefix would give the lab other names.
        prefixable: bool,
    },
    /// The cluster's user may not do what a lab takes.
    #[error("this user may not do what the lab takes on {cluster:?}: {}", missing.join("; "))]
    Rights {
        /// The cluster.
        cluster: String,
        /// What is missing, each as a verb and a resource.
        missing: Vec<String>,
    },
    /// The cluster has no such image.
    #[error("the cluster {cluster:?} cannot get the image {image}")]
    Images {
        /// The cluster.
        cluster: String,
        /// The image it could not get.
        image: String,
        /// All that the lab needs.
        needed: Vec<String>,
    },
    /// A manifest is not one.
    #[error("{file}: {reason}")]
    Manifest {
        /// The file, and the document in it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kubeconfig does not lead to a cluster.
    #[error("kubeconfig {path}: {source}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The API said no.
    #[error("{what}: {source}")]
    Api {
        /// What was asked of it.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
}

impl ClusterError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadName { .. } => {
                "use lower-case letters, digits and '-', at most 40 of them, as in lab-1".to_owned()
            }
            Self::AlreadyExists { name } => format!("use it, or delete it first: ztlab cluster delete {name}"),
            Self::NotFound { .. } => "ztlab cluster list shows the clusters there are".to_owned(),
            Self::NoContext { known, .. } if known.is_empty() => "it has no context at all".to_owned(),
            Self::NoContext { known, .. } => format!("the contexts are: {}", known.join(", ")),
            Self::NotOurs { .. } => "choose another name with --namespace-prefix, or remove it yourself if nobody needs it".to_owned(),
            Self::Clash {
                objects, prefixable, ..
            } => clash(objects, *prefixable),
            Self::Rights { .. } => {
                "ask the cluster's administrator for these rights, or take the lab on the embedded ground, where you have them"
                    .to_owned()
            }
            Self::Images { needed, .. } => format!(
                "the lab needs these images there: {}; --images names a registry that has them",
                needed.join(", ")
            ),
            Self::Stopped { name } => format!("start it: ztlab cluster start {name}"),
            Self::Unusable { name, .. } => format!("delete it and create it again: ztlab cluster delete {name}"),
            Self::Snapshot { cluster, .. } => format!("ztlab cluster snapshots {cluster} lists those there are"),
            Self::NoSuchGround { .. } => "the grounds are embedded (Linux) and context".to_owned(),
            Self::Unsupported { .. } => "use the tool that made the cluster".to_owned(),
            Self::Refused { hint, .. } => return hint.clone(),
            Self::NodeFailed { log, .. } => {
                format!(
                    "ztlab doctor checks what this machine allows; the node's log is {}",
                    log.display()
                )
            }
            Self::NotReady { .. } => "kubectl describe pods says why a pod is not ready".to_owned(),
            Self::Manifest { .. } => "kubectl apply --dry-run=client -f <file> checks a manifest".to_owned(),
            Self::File { .. } => return None,
            Self::Kubeconfig { .. } => "kubectl config get-contexts shows the contexts there are".to_owned(),
            Self::Api { .. } => return None,
        })
    }
}

/// How many objects a message names.
const NAMED: usize = 6;

fn some(objects: &[String]) -> String {
    let named = objects.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match objects.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn clash(objects: &[String], prefixable: bool) -> String {
    let of_labs = objects.iter().all(|object| object.contains("the lab `"));
    let namespaces = objects.iter().all(|object| object.starts_with("namespace "));
    if of_labs {
        "end that lab first, with `ztlab lab stop --delete` where it was started, or take another cluster".to_owned()
    } else if namespaces && prefixable {
        "choose another name with --namespace-prefix, or remove it yourself if nobody needs it".to_owned()
    } else {
        "take the lab on another cluster, or remove them yourself if nobody needs them".to_owned()
    }
}
