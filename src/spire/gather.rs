//! Everything that is looked at, collected in one go.

use std::collections::BTreeSet;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service},
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde::de::DeserializeOwned;

use super::{
    absence,
    ask::{AskError, Server},
    find::{self, Declared, Found, Part},
    manager::{self, Manager},
    model::{self, Agent, BundleView, Entry, States},
    rules::Rule,
    seen,
};

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The cluster's API refused or failed.
    #[error("cannot list {what}: {source}")]
    Api {
        /// What was to be listed.
        what: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
}

impl GatherError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        let Self::Api { source, .. } = self;
        if is_forbidden(source) {
            "name the namespaces that you may look at: `ztlab identity -n NAMESPACE`; it lists pods and Services there"
        } else {
            "see that the cluster answers: `kubectl get pods`"
        }
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Which pods could be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of the cluster's.
    Cluster,
    /// Those of these namespaces: SPIRE may be in another.
    Namespaces(Vec<String>),
}

/// Where SPIRE's guides and its Helm charts put it: looked at too by whoever may not look everywhere.
const USUAL: [&str; 3] = ["spire", "spire-server", "spire-system"];

/// What the SPIRE server says, each part or why it is not known.
#[derive(Debug)]
pub struct Answers {
    /// What its healthcheck prints.
    pub health: Result<String, String>,
    /// Its registration entries.
    pub entries: Result<Vec<Entry>, String>,
    /// The agents that it attested.
    pub agents: Result<Vec<Agent>, String>,
    /// Its own bundle and those that it federates with.
    pub bundles: Result<Vec<BundleView>, String>,
}

impl Answers {
    fn none(why: &str) -> Self {
        Self {
            health: Err(why.to_owned()),
            entries: Err(why.to_owned()),
            agents: Err(why.to_owned()),
            bundles: Err(why.to_owned()),
        }
    }
}

/// A cluster and its SPIRE at one moment.
#[derive(Debug)]
pub struct World {
    /// When, in seconds since the Unix epoch.
    pub now_s: i64,
    /// SPIRE's parts.
    pub found: Found,
    /// Which pods could be looked at.
    pub scope: Scope,
    /// All pods.
    pub pods: Vec<Pod>,
    /// All namespaces.
    pub namespaces: Vec<Namespace>,
    /// All nodes; none where they are not known.
    pub nodes: Vec<Node>,
    /// Why the nodes are not known, where they are not.
    pub nodes_unknown: Option<String>,
    /// All ClusterSPIFFEIDs, or why they are not known.
    pub rules: Result<Vec<Rule>, String>,
    /// The controller manager's configuration, where it could be read.
    pub manager: Option<Manager>,
    /// What the server says.
    pub answers: Answers,
}

impl World {
    /// Whether this namespace is the system's or SPIRE's own, and is passed over unless it is named.
    pub fn is_of_the_system(&self, namespace: &str) -> bool {
        let system = namespace.starts_with("kube-") || namespace == "local-path-storage";
        system || self.found.namespaces().any(|one| one == namespace)
    }

    /// The server's own bundle.
    pub fn own_bundle(&self) -> Option<&BundleView> {
        self.answers.bundles.as_ref().ok()?.iter().find(|bundle| bundle.own)
    }
}

/// Collects all of it. Changes nothing in the cluster. Whoever may not look everywhere looks at the namespaces `named`, and at
/// those that SPIRE usually is in, as far as that is allowed.
///
/// # Errors
/// When the pods of all namespaces, or of one that was named, cannot be listed. What nodes, SPIRE's server or its objects do not
/// tell is part of the result.
pub async fn gather(client: &kube::Client, named: &[String]) -> Result<World, GatherError> {
    let ((pods, scope), namespaces, (nodes, nodes_unknown)) =
        tokio::try_join!(pods(client, named), namespaces(client, named), nodes(client))?;
    let mut found = find::find(&pods);
    if found.servers.is_empty() || found.agents.is_empty() {
        found.declared = declared(client, &scope).await;
    }
    let (rules, manager, answers) = tokio::join!(
        rules(client),
        read_manager(client, &found, &pods),
        answers(client, &found, &scope, &pods),
    );
    Ok(World {
        now_s: seen::now_s(),
        found,
        scope,
        pods,
        namespaces,
        nodes,
        nodes_unknown,
        rules,
        manager,
        answers,
    })
}

async fn pods(client: &kube::Client, named: &[String]) -> Result<(Vec<Pod>, Scope), GatherError> {
    match list::<Pod>(Api::all(client.clone()), "the pods of all namespaces").await {
        Ok(pods) => return Ok((pods, Scope::Cluster)),
        Err(GatherError::Api { source, .. }) if is_forbidden(&source) && !named.is_empty() => {}
        Err(error) => return Err(error),
    }
    let mut all = Vec::new();
    let mut seen = named.to_vec();
    seen.sort();
    seen.dedup();
    for namespace in &seen {
        let api = Api::namespaced(client.clone(), namespace);
        all.extend(list::<Pod>(api, &format!("the pods of {namespace}")).await?);
    }
    for namespace in USUAL.iter().filter(|usual| !named.iter().any(|one| one == *usual)) {
        let api = Api::namespaced(client.clone(), namespace);
        // A namespace that is not there has no pods, which says nothing.
        if let Ok(pods) = list::<Pod>(api, "").await
            && !pods.is_empty()
        {
            all.extend(pods);
            seen.push((*namespace).to_owned());
        }
    }
    Ok((all, Scope::Namespaces(seen)))
}

/// All namespaces; for whoever may not list them, those of the named ones that are there.
async fn namespaces(client: &kube::Client, named: &[String]) -> Result<Vec<Namespace>, GatherError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match list(api.clone(), "namespaces").await {
        Err(GatherError::Api { source, .. }) if is_forbidden(&source) && !named.is_empty() => {}
        answer => return answer,
    }
    let mut there = Vec::new();
    for name in named {
        match api.get_opt(name).await {
            Ok(found) => there.extend(found),
            // Whether it is there its pods say; its labels are not known.
            Err(_) => there.push(Namespace {
                metadata: kube::api::ObjectMeta {
                    name: Some(name.clone()),
                    ..Default::default()
                },
                ..Namespace::default()
            }),
        }
    }
    Ok(there)
}

/// All nodes, or why they are not known.
async fn nodes(client: &kube::Client) -> Result<(Vec<Node>, Option<String>), GatherError> {
    match list(Api::all(client.clone()), "nodes").await {
        Ok(nodes) => Ok((nodes, None)),
        Err(GatherError::Api { source, .. }) if is_forbidden(&source) => Ok((
            Vec::new(),
            Some("the nodes are not known: you may not list them".to_owned()),
        )),
        Err(error) => Err(error),
    }
}

/// What is to run SPIRE's parts, as far as it may be looked at: it makes an advice better, and nothing hangs on it.
async fn declared(client: &kube::Client, scope: &Scope) -> Vec<Declared> {
    async fn everywhere<K>(client: &kube::Client, scope: &Scope) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let apis: Vec<Api<K>> = match scope {
            Scope::Cluster => vec![Api::all(client.clone())],
            Scope::Namespaces(seen) => {
                let seen = seen.iter().map(String::as_str);
                let all: BTreeSet<&str> = seen.chain(USUAL).collect();
                all.into_iter()
                    .map(|one| Api::namespaced(client.clone(), one))
                    .collect()
            }
        };
        let mut found = Vec::new();
        for api in apis {
            found.extend(list(api, "").await.unwrap_or_default());
        }
        found
    }
    let (stateful, deployments, daemons) = tokio::join!(
        everywhere::<StatefulSet>(client, scope),
        everywhere::<Deployment>(client, scope),
        everywhere::<DaemonSet>(client, scope),
    );
    find::declared(&stateful, &deployments, &daemons)
}

/// The Services of some namespaces.
///
/// # Errors
/// When they cannot be listed.
pub(crate) async fn services(client: &kube::Client, namespaces: &[String]) -> Result<Vec<Service>, GatherError> {
    let mut all = Vec::new();
    for namespace in namespaces {
        let api = Api::namespaced(client.clone(), namespace);
        all.extend(list::<Service>(api, &format!("the Services of {namespace}")).await?);
    }
    Ok(all)
}

async fn list<K>(api: Api<K>, what: &str) -> Result<Vec<K>, GatherError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(|source| GatherError::Api {
            what: what.to_owned(),
            source: Box::new(source),
        })?;
    Ok(list.items)
}

async fn rules(client: &kube::Client) -> Result<Vec<Rule>, String> {
    let kind = GroupVersionKind::gvk("spire.spiffe.io", "v1alpha1", "ClusterSPIFFEID");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusterspiffeids");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(
                "the cluster has no kind ClusterSPIFFEID: no controller manager of SPIRE is installed".to_owned(),
            );
        }
        Err(error) => return Err(format!("ClusterSPIFFEIDs cannot be listed: {error}")),
    };
    list.into_iter()
        .map(|object| {
            let name = object.name_any();
            serde_json::to_value(object)
                .and_then(serde_json::from_value)
                .map_err(|error| format!("the ClusterSPIFFEID {name} cannot be read: {error}"))
        })
        .collect()
}

fn pod_of<'a>(part: &Part, pods: &'a [Pod]) -> Option<&'a Pod> {
    pods.iter()
        .find(|pod| pod.name_any() == part.pod && pod.namespace().as_deref() == Some(&part.namespace))
}

/// The text of the file that a part is told to read.
async fn config(client: &kube::Client, part: &Part, pods: &[Pod]) -> Option<String> {
    let spec = pod_of(part, pods)?.spec.as_ref()?;
    let container = spec.containers.iter().find(|one| one.name == part.container)?;
    let (name, key) = manager::config_file(spec, container)?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &part.namespace);
    let map = api.get_opt(&name).await.ok()??;
    manager::text(&map, &key).map(str::to_owned)
}

async fn read_manager(client: &kube::Client, found: &Found, pods: &[Pod]) -> Option<Manager> {
    let part = found.managers.first()?;
    Manager::parse(&config(client, part, pods).await?)
}

async fn answers(client: &kube::Client, found: &Found, scope: &Scope, pods: &[Pod]) -> Answers {
    let absence = absence::server(found, scope);
    let Some(part) = found.server() else {
        return Answers::none(&absence.map(|one| one.says).unwrap_or_default());
    };
    let config = config(client, part, pods).await;
    let server = Server {
        client,
        part,
        socket: config.as_deref().and_then(manager::socket),
    };
    let health = match server.run("healthcheck").await {
        Ok(said) => Ok(said.trim().to_owned()),
        // One that is not ready says what is wrong with it, or cannot be asked because of what it waits for.
        Err(error) => Err(match (absence, &error) {
            (None, _) => error.to_string(),
            (Some(absence), AskError::Failed { said, .. }) => format!("{}; it says: {said}", absence.says),
            (Some(absence), _) => absence.says,
        }),
    };
    // A server that cannot be reached at all would be waited for once more by each question.
    if let Err(why) = &health {
        return Answers::none(why);
    }
    let (entries, agents, bundles) = tokio::join!(
        server.ask("entry show -output json", model::entries),
        server.ask("agent list -output json", model::agents),
        bundles(&server),
    );
    let told = |error: AskError| error.to_string();
    Answers {
        health,
        entries: entries.map_err(told),
        agents: agents.map_err(told),
        bundles: bundles.map_err(told),
    }
}

async fn bundles(server: &Server<'_>) -> Result<Vec<BundleView>, AskError> {
    let (own, foreign, x509, jwt) = tokio::join!(
        server.ask("bundle show -output json", model::own_bundle),
        server.ask("bundle list -output json", model::foreign_bundles),
        server.ask("localauthority x509 show -output json", model::states),
        server.ask("localauthority jwt show -output json", model::states),
    );
    // Servers before SPIRE 1.10 do not say which of their authorities signs.
    let (x509, jwt): (States, States) = (x509.unwrap_or_default(), jwt.unwrap_or_default());
    let mut all = vec![own?.with_states(&x509, &jwt)];
    all.extend(foreign?);
    Ok(all)
}

/// The last warning about a pod.
pub async fn warning(client: &kube::Client, pod: &Pod) -> Option<String> {
    let api: Api<Event> = Api::namespaced(client.clone(), &pod.namespace()?);
    let about = format!("involvedObject.uid={},type=Warning", pod.uid()?);
    let events = api.list(&ListParams::default().fields(&about)).await.ok()?;
    let last = events.items.into_iter().max_by_key(|event| {
        event.last_timestamp.as_ref().map(|time| time.0).or(event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0))
    })?;
    let reason = last.reason.unwrap_or_default();
    Some(format!("{reason}: {}", last.message.unwrap_or_default()))
}
