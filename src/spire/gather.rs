//! Everything that is looked at, collected in one go.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde::de::DeserializeOwned;

use super::{
    ask::{AskError, Server},
    find::{self, Found, LOOKED_FOR, Part},
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
        "identity lists pods, nodes, namespaces and Services of the whole cluster: see that you may"
    }
}

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
    /// All pods.
    pub pods: Vec<Pod>,
    /// All namespaces.
    pub namespaces: Vec<Namespace>,
    /// All nodes.
    pub nodes: Vec<Node>,
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

/// Collects all of it. Changes nothing in the cluster.
///
/// # Errors
/// When pods, nodes or namespaces cannot be listed. What SPIRE's server or its objects do not tell is part of the result.
pub async fn gather(client: &kube::Client) -> Result<World, GatherError> {
    let (pods, namespaces, nodes) = tokio::try_join!(
        list::<Pod>(Api::all(client.clone()), "the pods of all namespaces"),
        list::<Namespace>(Api::all(client.clone()), "namespaces"),
        list::<Node>(Api::all(client.clone()), "nodes"),
    )?;
    let found = find::find(&pods);
    let (rules, manager, answers) = tokio::join!(
        rules(client),
        read_manager(client, &found, &pods),
        answers(client, &found, &pods),
    );
    Ok(World {
        now_s: seen::now_s(),
        found,
        pods,
        namespaces,
        nodes,
        rules,
        manager,
        answers,
    })
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

async fn answers(client: &kube::Client, found: &Found, pods: &[Pod]) -> Answers {
    let Some(part) = found.server() else {
        return Answers::none(&format!("no SPIRE server was found; looked for: {LOOKED_FOR}"));
    };
    let config = config(client, part, pods).await;
    let server = Server {
        client,
        part,
        socket: config.as_deref().and_then(manager::socket),
    };
    let health = match server.run("healthcheck").await {
        Ok(said) => Ok(said.trim().to_owned()),
        Err(error) => Err(error.to_string()),
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
