//! Which cluster, which namespaces, which pod.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Args;
use crate::{
    cli::{error::CliError, output::Output, session, shell},
    cluster::{self, GroundKind},
    spire::{self, World},
};

/// Where to look.
pub(super) struct Place {
    pub(super) client: kube::Client,
    /// The namespaces that were named, or the lab's; without any, all but the system's and SPIRE's own.
    namespaces: Vec<String>,
}

/// The cluster asked for, else the running lab's, else the only one there is.
pub(super) async fn place(args: &Args) -> Result<Place, CliError> {
    let lab = match (&args.cluster, &args.context) {
        (None, None) => session::running().await?.map(|(_, session)| session),
        _ => None,
    };
    if let Some(session) = lab.filter(|session| session.kubeconfig.is_some()) {
        let kubeconfig = PathBuf::from(session.kubeconfig.unwrap_or_default());
        let namespaces = match args.namespace.as_slice() {
            [] => vec![session.namespace],
            named => named.to_vec(),
        };
        return Ok(Place {
            client: cluster::connect(&kubeconfig).await?,
            namespaces,
        });
    }
    let client = match &args.context {
        Some(context) => cluster::ground(GroundKind::Context)?.get(context).await?.client,
        None => cluster::connect(&shell::place(args.cluster.as_deref()).await?.kubeconfig).await?,
    };
    Ok(Place {
        client,
        namespaces: args.namespace.clone(),
    })
}

impl Place {
    /// The cluster and its SPIRE; `pod` is who is asked about.
    ///
    /// # Errors
    /// When not even the namespaces that were named may be looked at.
    pub(super) async fn world(&self, pod: Option<&str>) -> Result<World, CliError> {
        let of_pod = pod
            .and_then(|text| text.split_once('/'))
            .map(|(namespace, _)| namespace.to_owned());
        let named: Vec<String> = self.namespaces.iter().cloned().chain(of_pod).collect();
        Ok(spire::gather(&self.client, &named).await?)
    }

    /// The pods to tell of, by namespace and name.
    ///
    /// # Errors
    /// When a namespace that was named is not there.
    pub(super) fn pods<'a>(&self, world: &'a World) -> Result<Vec<&'a Pod>, CliError> {
        for name in &self.namespaces {
            if !world.namespaces.iter().any(|one| one.name_any() == *name) {
                let there: Vec<String> = world.namespaces.iter().map(ResourceExt::name_any).collect();
                return Err(CliError::with_hint(
                    format!("there is no namespace `{name}`"),
                    format!("there are {}", there.join(", ")),
                ));
            }
        }
        let asked = |pod: &&Pod| {
            let namespace = pod.namespace().unwrap_or_default();
            match self.namespaces.as_slice() {
                [] => !world.is_of_the_system(&namespace),
                named => named.contains(&namespace),
            }
        };
        let ended = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let mut pods: Vec<&Pod> = world.pods.iter().filter(asked).filter(|pod| !ended(pod)).collect();
        pods.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
        Ok(pods)
    }

    /// The pod that a text means: a pod's name, or a workload's, of which a running one is taken; before a slash, the namespace.
    ///
    /// # Errors
    /// When there is none, or in several namespaces.
    pub(super) fn pod<'a>(&self, world: &'a World, text: &str, out: &Output) -> Result<&'a Pod, CliError> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let pods = match namespace {
            // Whoever names the namespace may name any.
            Some(_) => world.pods.iter().collect(),
            None => self.pods(world)?,
        };
        let near = |pod: &&&Pod| namespace.is_none_or(|wanted| pod.namespace().as_deref() == Some(wanted));
        let pods: Vec<&Pod> = pods.iter().filter(near).copied().collect();
        let exact: Vec<&Pod> = pods.iter().filter(|pod| pod.name_any() == name).copied().collect();
        let found = if exact.is_empty() {
            of_workload(world, &pods, name)
        } else {
            exact
        };
        let mut namespaces: Vec<String> = found.iter().filter_map(|pod| pod.namespace()).collect();
        namespaces.dedup();
        match (found.as_slice(), namespaces.as_slice()) {
            ([], _) => Err(CliError::with_hint(
                format!("there is no pod or workload `{text}`{}", self.told()),
                suggestion(&pods, namespace),
            )),
            (_, [_, _, ..]) => Err(CliError::with_hint(
                format!("`{text}` is in several namespaces: {}", namespaces.join(", ")),
                format!("name one: `{}/{name}`", namespaces[0]),
            )),
            ([first, rest @ ..], _) => {
                if !rest.is_empty() {
                    out.note(format!("{name} has {} pods; this is {}", found.len(), first.name_any()));
                }
                Ok(first)
            }
        }
    }

    fn told(&self) -> String {
        match self.namespaces.as_slice() {
            [] => String::new(),
            named => format!(" in {}", named.join(", ")),
        }
    }
}

/// The pods of a workload, running ones first.
fn of_workload<'a>(world: &World, pods: &[&'a Pod], name: &str) -> Vec<&'a Pod> {
    let workloads = spire::workloads(&world.pods, &[]);
    let belongs = |pod: &&Pod| {
        let mut own = workloads.iter().filter(|one| one.name.name == name);
        own.any(|one| {
            pod.namespace().as_ref() == Some(&one.name.namespace)
                && one.pods.iter().any(|place| place.name == pod.name_any())
        })
    };
    let mut found: Vec<&Pod> = pods.iter().copied().filter(belongs).collect();
    found.sort_by_key(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        (pod.namespace(), phase != Some("Running"), pod.name_any())
    });
    found
}

/// The names that there are.
const SUGGESTED: usize = 12;

fn suggestion(pods: &[&Pod], namespace: Option<&str>) -> String {
    if pods.is_empty() {
        return match namespace {
            Some(namespace) => format!("there is no pod in the namespace {namespace}"),
            None => "there are no pods; --namespace names where to look".to_owned(),
        };
    }
    let names: Vec<String> = pods
        .iter()
        .take(SUGGESTED)
        .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
        .collect();
    let more = if pods.len() > SUGGESTED { ", …" } else { "" };
    format!("there are {}{more}", names.join(", "))
}
