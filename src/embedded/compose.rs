//! The composition root: starts the parts of a cluster in order, each with a named readiness.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    NodeConfig, NodeContext, NodeError, STORE_DIR, components,
    control_plane::{
        apiserver::{ApiServer, ApiServerConfig},
        controllers,
        pki::Pki,
        scheduler,
        snapshot::content::Places,
        storage::{CollectionKey, Limits, Store},
    },
    dns,
    events::Recorder,
    informer::{Informer, Informers},
    node::{
        kube_proxy::{self, KubeProxy, NodeFacts},
        kubelet::{Kubelet, KubeletConfig, shared_directories},
        memory,
        network_policy::{self, KernelRules},
        runtime::{Runtime, RuntimeConfig},
    },
    ranges::Ranges,
    rootless::run_dir,
    system::{self, API_PORT, DNS_PORT},
    tasks::Tasks,
};

fn failed<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> NodeError {
    move |error| NodeError::Part {
        part,
        reason: error.to_string(),
    }
}

/// Runs a cluster until `context.stop` is cancelled.
///
/// # Errors
/// When a part does not start.
pub async fn run(context: NodeContext) -> Result<(), NodeError> {
    let NodeContext {
        config,
        listener,
        groups,
        images,
        ready,
        stop,
    } = context;
    let _stopped = stop.clone().drop_guard();
    let ranges = config.ranges;
    ranges.check().map_err(failed("the cluster's addresses"))?;
    if let Err(why) = &groups {
        tracing::info!("no control group holds pods to their limits: {why}");
    }
    let runtime_config = RuntimeConfig {
        groups: groups.ok(),
        node_addresses: vec![ranges.node()],
        service_range: (ranges.services.network(), ranges.services.prefix_len()),
        ..RuntimeConfig::new(run_dir(&config.dir).join("runtime"))
    };
    let runtime = Runtime::start(runtime_config).map_err(failed("the container runtime"))?;
    let proxy = KubeProxy::start(ranges.node()).map_err(failed("kube-proxy"))?;
    let policy_rules = KernelRules::start().map_err(failed("NetworkPolicy"))?;

    let pki = Pki::load_or_create(&config.dir.join("pki")).map_err(failed("the cluster's certificates"))?;
    let dir = config.dir.join(STORE_DIR);
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, Limits::default())).await;
    let (store, recovery) = opened
        .map_err(failed("the cluster's state"))?
        .map_err(failed("the cluster's state"))?;
    let mut notes: Vec<String> = recovery.note().into_iter().collect();
    let api = api_server(
        &pki,
        store.clone(),
        places(&config),
        listener,
        &ranges,
        &stop,
        &mut notes,
    )
    .await?;
    for note in &notes {
        tracing::error!("{note}");
    }
    let informers = Informers::start(&api.client(&components::shared_informers()), &stop);
    let own_services = api.client(&components::cluster_services());
    system::publish(&own_services, &ranges)
        .await
        .map_err(failed("the cluster's own Services"))?;
    let controller_manager = api.client(&components::controller_manager());
    let recorder = Recorder::start(controller_manager.clone());
    informers.synced().await;
    tokio::spawn(system::keep(own_services, ranges, informers.clone(), stop.clone()));

    let (server, tasks) = (api.clone(), Tasks::default());
    let controlling = tasks.clone();
    api.set_check("controller-manager", Arc::new(move || controlling.check()));
    controllers::start(&controllers::Context {
        client: controller_manager,
        clients: Arc::new(move |account| server.client(&components::controller(account))),
        informers: informers.clone(),
        recorder: recorder.clone(),
        ca_pem: pki.ca_certificate().to_owned(),
        token_key: pki.token_key(),
        volumes: volumes_dir(&config),
        signer: pki.signer(),
        tasks,
        stop: stop.clone(),
    });
    let scheduling = Tasks::default();
    scheduler::start(
        api.client(&components::scheduler()),
        informers.clone(),
        &recorder,
        &scheduling,
        stop.clone(),
    );
    api.set_check("scheduler", Arc::new(move || scheduling.check()));
    let (at, pods) = (store.clone(), CollectionKey::new("", "pods"));
    network_policy::start(
        policy_rules,
        api.client(&components::network_policy()),
        Box::new(move || at.changed(&pods)),
        &informers,
        system::on_the_node(ranges.node()),
        stop.clone(),
    );
    let node = NodeFacts {
        address: ranges.node(),
        name: config.name.clone(),
        reserved: system::reserved(),
    };
    let services = Services::start(&api.client(&components::kube_proxy()), &stop);
    tokio::spawn(follow_services(proxy, node, services, stop.clone()));
    let services = Services::start(&api.client(&components::dns()), &stop);
    dns::start(
        SocketAddr::from((ranges.node(), DNS_PORT)),
        services.services,
        services.slices,
        stop.clone(),
    )
    .await
    .map_err(failed("cluster DNS"))?;
    let kubelet = Kubelet::start(
        kubelet_config(&config),
        api.client(&components::kubelet(&config.name)),
        informers,
        &recorder,
        runtime,
        images,
        stop.clone(),
    )
    .await
    .map_err(failed("kubelet"))?;
    api.set_kubelet(Arc::new(kubelet));
    let at_rest = store.clone();
    memory::give_back_at_rest(move || at_rest.pack()).map_err(failed("the thread that gives memory back"))?;
    ready(notes);
    stop.cancelled().await;
    // The pods end with this process; what they were is on disk before that.
    tokio::task::spawn_blocking(move || store.close())
        .await
        .map_err(failed("the cluster's state"))
}

/// Where the directories of PersistentVolumes are: they outlive the node.
fn volumes_dir(config: &NodeConfig) -> PathBuf {
    config.dir.join("volumes")
}

/// Where snapshots are, and the files that belong to them.
fn places(config: &NodeConfig) -> Places {
    let node = node_root(config);
    Places {
        snapshots: config.dir.join("snapshots"),
        volumes: volumes_dir(config),
        node: shared_directories(&node),
    }
}

/// What stands for the node's own file system.
fn node_root(config: &NodeConfig) -> PathBuf {
    run_dir(&config.dir).join("node")
}

fn kubelet_config(config: &NodeConfig) -> KubeletConfig {
    KubeletConfig {
        node_name: config.name.clone(),
        node_ip: config.ranges.node(),
        pod_ips: config.ranges.pod_ips(),
        pod_range: config.ranges.pods,
        dns: config.ranges.dns(),
        domain: dns::DOMAIN.to_owned(),
        volumes: run_dir(&config.dir).join("volumes"),
        node_root: node_root(config),
        persistent: volumes_dir(config),
        logs: config.dir.join("pods"),
    }
}

async fn api_server(
    pki: &Pki,
    store: Store,
    snapshots: Places,
    listener: std::net::TcpListener,
    ranges: &Ranges,
    stop: &CancellationToken,
    notes: &mut Vec<String>,
) -> Result<ApiServer, NodeError> {
    listener.set_nonblocking(true).map_err(failed("the API server"))?;
    let address = listener.local_addr().map_err(failed("the API server"))?;
    let listener = TcpListener::from_std(listener).map_err(failed("the API server"))?;
    let tls = pki
        .server_config(&[ranges.kubernetes(), ranges.node()])
        .map_err(failed("the API server"))?;
    let api = ApiServer::new(ApiServerConfig {
        store,
        token_key: pki.token_key(),
        ca_certificate: pki.ca_certificate().to_owned(),
        address: address.to_string(),
        services: ranges.services,
        snapshots: Some(snapshots),
    });
    notes.extend(api.end_interrupted_restore().await);
    // Clients of the host come by the port bound there; pods come by the Service `kubernetes`.
    let inside = TcpListener::bind((ranges.node(), API_PORT))
        .await
        .map_err(failed("the API server"))?;
    for listener in [listener, inside] {
        tokio::spawn(serve(api.clone(), listener, tls.clone(), stop.clone()));
    }
    Ok(api)
}

async fn serve(api: ApiServer, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        result = api.serve(listener, tls) => {
            if let Err(error) = result {
                tracing::error!(%error, "the API server ended");
                // A cluster that cannot be reached any more is of no use to anybody.
                stop.cancel();
            }
        }
    }
}

/// What kube-proxy and DNS follow, each by watches of its own and as itself.
struct Services {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

impl Services {
    fn start(client: &kube::Client, stop: &CancellationToken) -> Self {
        Self {
            services: Informer::start(client.clone(), stop.clone()),
            slices: Informer::start(client.clone(), stop.clone()),
        }
    }
}

/// Keeps the kernel's rules at what the Services say.
async fn follow_services(mut proxy: KubeProxy, node: NodeFacts, informers: Services, stop: CancellationToken) {
    informers.services.synced().await;
    informers.slices.synced().await;
    let (tell, mut told) = mpsc::channel(1);
    for_changes(&informers.services, tell.clone());
    for_changes(&informers.slices, tell);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = told.recv() => {}
            else => return,
        }
        let services: Vec<_> = informers.services.all().iter().map(|one| (**one).clone()).collect();
        let slices: Vec<_> = informers.slices.all().iter().map(|one| (**one).clone()).collect();
        if let Err(error) = proxy.apply(&kube_proxy::compile(&services, &slices, &node)) {
            tracing::error!(%error, "Services could not be brought up to date");
        }
    }
}

/// One message for any number of changes that nobody has looked at yet.
fn for_changes<K>(informer: &Informer<K>, tell: mpsc::Sender<()>)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let mut changes = informer.subscribe();
    tokio::spawn(async move {
        while changes.recv().await.is_some() {
            if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                return;
            }
        }
    });
}
