//! A server, an agent and a workload in one process.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, Status, transport::Channel};
use ztlab_identity::{TrustDomain, X509Context};

use crate::{
    agent::{
        Agent, AgentError, SecretNames,
        attestor::{AttestError, Caller, WorkloadAttestor},
        bundle_of,
    },
    api::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient},
        types,
        workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient},
    },
    ca::{Settings, Subject},
    clock::{SharedClock, SystemClock, TokioClock},
    config::{AgentConfig, Bootstrap, NodeProof, WorkloadProof},
    server::{Core, attestation::Attestors},
    store::{Places, Selector},
    transport,
};

/// The time at which every test begins, in seconds of the Unix epoch.
pub const START: i64 = 1_795_000_000;

/// An attestor whose answer a test sets.
#[derive(Default)]
pub struct Scripted(pub Mutex<BTreeSet<Selector>>);

#[async_trait::async_trait]
impl WorkloadAttestor for Scripted {
    async fn attest(&self, _: &Caller) -> Result<BTreeSet<Selector>, AttestError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

pub fn settings(ca_ttl: u64, svid_ttl: u64) -> Settings {
    Settings {
        trust_domain: TrustDomain::new("shop.test").unwrap(),
        ca_ttl: Duration::from_secs(ca_ttl),
        x509_svid_ttl: Duration::from_secs(svid_ttl),
        jwt_svid_ttl: Duration::from_secs(svid_ttl / 2),
        agent_ttl: Duration::from_secs(svid_ttl),
        subject: Subject::of_an_authority(),
        jwt_issuer: None,
    }
}

/// What there is of the world.
pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: SharedClock,
    pub core: Arc<Core>,
    pub port: u16,
    pub workload: Arc<Scripted>,
    server: Vec<JoinHandle<()>>,
}

impl World {
    /// A server that serves both doors.
    pub async fn with(settings: Settings) -> Self {
        Self::with_attestors(settings, Attestors::new()).await
    }

    /// The same at the system's own time, for programs that go by it.
    pub async fn now(settings: Settings) -> Self {
        Self::at(Arc::new(SystemClock), settings, Attestors::new()).await
    }

    /// The same, with node attestors.
    pub async fn with_attestors(settings: Settings, attestors: Attestors) -> Self {
        Self::at(Arc::new(TokioClock::starting_at(START)), settings, attestors).await
    }

    async fn at(clock: SharedClock, settings: Settings, attestors: Attestors) -> Self {
        // What the programs log is shown with a test that fails.
        let _ = tracing_subscriber::fmt().with_test_writer().with_ansi(false).try_init();
        let dir = tempfile::tempdir().unwrap();
        let (core, port, server) = start(&dir, &clock, settings, attestors, 0).await;
        let workload = Arc::new(Scripted::default());
        workload.0.lock().unwrap().insert(Selector::new("unix", "uid:7"));
        Self {
            dir,
            clock,
            core,
            port,
            workload,
            server,
        }
    }

    /// Ends the server as a kill would, and starts another on the same files.
    pub async fn restart(&mut self, settings: Settings) {
        for task in self.server.drain(..) {
            task.abort();
            let _ = task.await;
        }
        let (core, port, server) = start(&self.dir, &self.clock, settings, Attestors::new(), self.port).await;
        (self.core, self.port, self.server) = (core, port, server);
    }

    /// Ends the server and leaves it so.
    pub async fn stop_server(&mut self) {
        for task in self.server.drain(..) {
            task.abort();
            let _ = task.await;
        }
    }

    pub fn admin(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn channel(&self) -> Channel {
        transport::over_unix(self.admin())
    }

    pub async fn bundle(&self) -> types::Bundle {
        BundleClient::new(self.channel())
            .get_bundle(GetBundleRequest::default())
            .await
            .unwrap()
            .into_inner()
    }

    /// Starts an agent that was let in by a join token; its id is the parent of [`World::entry`]'s.
    pub async fn agent(&self) -> JoinHandle<Result<(), AgentError>> {
        let request = CreateJoinTokenRequest {
            ttl: 600,
            token: "t".into(),
            agent_id: None,
        };
        AgentClient::new(self.channel())
            .create_join_token(request)
            .await
            .unwrap();
        self.agent_with(NodeProof::JoinToken("t".into())).await
    }

    pub async fn agent_with(&self, node: NodeProof) -> JoinHandle<Result<(), AgentError>> {
        self.agent_that_begins(node, false).await
    }

    /// Starts an agent; `insecure` is one that knows no bundle in the beginning.
    pub async fn agent_that_begins(&self, node: NodeProof, insecure: bool) -> JoinHandle<Result<(), AgentError>> {
        let path = self.dir.path().join("bundle.pem");
        let bundle = bundle_of(&self.bundle().await).unwrap();
        std::fs::write(&path, bundle.x509().to_pem()).unwrap();
        let config = AgentConfig {
            trust_domain: TrustDomain::new("shop.test").unwrap(),
            server: ("127.0.0.1".into(), self.port),
            socket: self.socket(),
            bootstrap: if insecure {
                Bootstrap::Insecure
            } else {
                Bootstrap::Bundle { path, spiffe: false }
            },
            node,
            serves_workload_api: true,
            secrets: Some(SecretNames::default()),
            workloads: vec![WorkloadProof::Unix],
            health: None,
            log_level: "INFO".into(),
        };
        let agent = Agent::new(config, Arc::clone(&self.workload) as _, Arc::clone(&self.clock)).unwrap();
        let listener = transport::listen_unix(&self.socket(), true).unwrap();
        tokio::spawn(agent.serve(listener, std::future::pending()))
    }

    /// Gives `path` to whoever shows the user id 7, and returns the entry's id.
    pub async fn entry(&self, path: &str) -> String {
        self.entry_of(entry(path)).await
    }

    pub async fn entry_of(&self, entry: types::Entry) -> String {
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let results = EntryClient::new(self.channel())
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        let result = results.into_iter().next().unwrap();
        assert_eq!(result.status.clone().unwrap().code, 0, "{result:?}");
        result.entry.unwrap().id
    }

    pub async fn delete(&self, id: String) {
        let request = BatchDeleteEntryRequest { ids: vec![id] };
        EntryClient::new(self.channel())
            .batch_delete_entry(request)
            .await
            .unwrap();
    }

    /// Gives the entry of `/orders` a DNS name: whatever changes in its entry, the workload gets another SVID.
    pub async fn changed(&self, id: &str, dns_name: &str) {
        let request = BatchUpdateEntryRequest {
            entries: vec![types::Entry {
                id: id.into(),
                dns_names: vec![dns_name.into()],
                ..entry("/orders")
            }],
            input_mask: None,
            output_mask: None,
        };
        let results = EntryClient::new(self.channel()).batch_update_entry(request).await;
        let results = results.unwrap().into_inner().results;
        assert_eq!(results[0].status.as_ref().unwrap().code, 0, "{results:?}");
    }

    pub fn workload_api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(transport::over_unix(self.socket()))
    }

    /// The stream of the workload's SVIDs, from the first on: until there is one, it is asked again.
    pub async fn svids(&self) -> (X509svidResponse, tonic::Streaming<X509svidResponse>) {
        loop {
            match self.try_svids().await {
                Ok(found) => return found,
                Err(status) => {
                    assert!(
                        matches!(status.code(), tonic::Code::Unavailable | tonic::Code::PermissionDenied),
                        "{status:?}"
                    );
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    pub async fn try_svids(&self) -> Result<(X509svidResponse, tonic::Streaming<X509svidResponse>), Status> {
        let mut stream = self
            .workload_api()
            .fetch_x509svid(secured(X509svidRequest {}))
            .await?
            .into_inner();
        let first = stream.message().await?.expect("the stream ended");
        Ok((first, stream))
    }
}

async fn start(
    dir: &tempfile::TempDir,
    clock: &SharedClock,
    settings: Settings,
    attestors: Attestors,
    port: u16,
) -> (Arc<Core>, u16, Vec<JoinHandle<()>>) {
    let core = Core::new(settings, Places::in_directory(dir.path()), attestors, Arc::clone(clock)).unwrap();
    let admin = transport::listen_unix(&dir.path().join("api.sock"), false).unwrap();
    let agents = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = agents.local_addr().unwrap().port();
    let tasks = vec![
        tokio::spawn(Arc::clone(&core).keep_time()),
        tokio::spawn({
            let core = Arc::clone(&core);
            async move { core.serve_admin(admin, std::future::pending()).await.unwrap() }
        }),
        tokio::spawn({
            let core = Arc::clone(&core);
            async move { core.serve_agents(agents, std::future::pending()).await.unwrap() }
        }),
    ];
    (core, port, tasks)
}

pub fn entry(path: &str) -> types::Entry {
    let id = |path: &str| {
        Some(types::Spiffeid {
            trust_domain: "shop.test".into(),
            path: path.into(),
        })
    };
    types::Entry {
        spiffe_id: id(path),
        parent_id: id("/spire/agent/join_token/t"),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:7".into(),
        }],
        ..types::Entry::default()
    }
}

pub fn secured<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "workload.spiffe.io",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    request
}

/// Verifies what the Workload API answered, at `now`: the SVIDs against the bundles that came along.
pub fn context(answer: &X509svidResponse, now: i64) -> X509Context {
    use ztlab_identity::{UnixTime, X509Bundle, X509BundleSet, X509Svid, x509};
    let mut bundles = X509BundleSet::default();
    let svids: Vec<X509Svid> = answer
        .svids
        .iter()
        .map(|one| {
            let svid = X509Svid::from_der(&one.x509_svid, &one.x509_svid_key).unwrap();
            bundles.insert(X509Bundle::from_der(svid.id().trust_domain().clone(), &one.bundle).unwrap());
            svid
        })
        .collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.try_into().unwrap()));
    for svid in &svids {
        x509::verify(svid.chain(), &bundles, now).unwrap();
    }
    X509Context::new(svids, bundles).unwrap()
}
