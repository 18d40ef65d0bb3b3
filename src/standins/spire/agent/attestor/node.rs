//! `k8s`: the pod that a connection comes from, as the node and the API server know it.
//!
//! The node is asked with the connection itself, not with a process id: an id can be another process's by the time it is
//! looked at, a connection cannot. The question goes to a socket that the embedded cluster puts into pods with `hostPID`.

use std::{collections::BTreeSet, io::IoSlice, mem::MaybeUninit, os::fd::AsFd, path::PathBuf, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt, reflector, watcher},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

use super::{AttestError, Caller, WorkloadAttestor, pod};
use crate::store::Selector;

/// How long the node may take for its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the pod's status may take to tell of a container that runs.
const STATUS: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where the pod of a container is looked up.
#[async_trait::async_trait]
pub trait Pods: Send + Sync {
    /// The pod with this uid; none if this node has none.
    async fn of_uid(&self, uid: &str) -> Result<Option<Pod>, String>;

    /// Tells that pods may have changed.
    fn changes(&self) -> watch::Receiver<()>;
}

/// The pods of one node, followed.
pub struct NodePods {
    api: Api<Pod>,
    selector: String,
    store: reflector::Store<Pod>,
    changes: watch::Receiver<()>,
}

impl NodePods {
    /// Follows the pods of `node`.
    pub fn follow(client: kube::Client, node: &str) -> Self {
        let api: Api<Pod> = Api::all(client);
        let selector = format!("spec.nodeName={node}");
        let (store, writer) = reflector::store();
        let watch = watcher(api.clone(), watcher::Config::default().fields(&selector)).default_backoff();
        let mut events = Box::pin(reflector(writer, watch));
        let (changed, changes) = watch::channel(());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(_) => drop(changed.send(())),
                    Err(error) => tracing::warn!(%error, "the pods of this node are not followed; it is tried again"),
                }
            }
        });
        Self {
            api,
            selector,
            store,
            changes,
        }
    }
}

#[async_trait::async_trait]
impl Pods for NodePods {
    async fn of_uid(&self, uid: &str) -> Result<Option<Pod>, String> {
        let is = |pod: &Pod| pod.metadata.uid.as_deref() == Some(uid);
        if let Some(pod) = self.store.find(|pod| is(pod)) {
            return Ok(Some(Pod::clone(&pod)));
        }
        // A container that was just started can call before the watch has told of its pod.
        let listed = self.api.list(&ListParams::default().fields(&self.selector)).await;
        Ok(listed.map_err(|error| error.to_string())?.items.into_iter().find(is))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }
}

/// Asks the node and the API server.
pub struct NodeAttestor {
    socket: PathBuf,
    pods: Box<dyn Pods>,
}

/// What the node says of a connection.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(rename = "podUID", default)]
    pod_uid: String,
    #[serde(default)]
    container_name: String,
    #[serde(default)]
    error: String,
}

impl NodeAttestor {
    /// An attestor that asks `socket`, and `pods` for what it says.
    pub fn new(socket: PathBuf, pods: Box<dyn Pods>) -> Self {
        Self { socket, pods }
    }

    /// The pod, once its status tells of the container: only there is what SPIRE goes by.
    async fn pod(&self, uid: &str, container: &str) -> Result<Pod, AttestError> {
        let mut changes = self.pods.changes();
        loop {
            changes.borrow_and_update();
            let found = self.pods.of_uid(uid).await.map_err(AttestError::Pod)?;
            let found = found.ok_or_else(|| AttestError::Pod(format!("no pod of this node has the uid {uid}")))?;
            if !pod::is_behind(&found, container) {
                return Ok(found);
            }
            let changed = changes.changed().await;
            changed.map_err(|_| AttestError::Pod("the pods of this node are not followed any more".into()))?;
        }
    }

    async fn ask(&self, caller: &Caller) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let sent = stream.async_io(Interest::WRITABLE, || send(&stream, caller)).await?;
        if sent != 1 {
            return Err(std::io::Error::other("the question was not taken"));
        }
        let mut answer = Vec::new();
        (&mut stream).take(LONGEST).read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

fn send(stream: &UnixStream, caller: &Caller) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [caller.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(std::io::Error::other("there is no room for the connection"));
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(b"?")],
        &mut ancillary,
        SendFlags::empty(),
    )?)
}

#[async_trait::async_trait]
impl WorkloadAttestor for NodeAttestor {
    async fn attest(&self, caller: &Caller) -> Result<BTreeSet<Selector>, AttestError> {
        let socket = self.socket.display();
        let answer = timeout(ANSWER, self.ask(caller))
            .await
            .map_err(|_| AttestError::Node(format!("{socket} did not answer within {} s", ANSWER.as_secs())))?
            .map_err(|error| AttestError::Node(format!("{socket}: {error}")))?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| AttestError::Node(format!("{socket}: {error}")))?;
        if !answer.error.is_empty() {
            return Err(AttestError::Node(answer.error));
        }
        // A process that is in no pod shows nothing.
        if answer.pod_uid.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (uid, container) = (&answer.pod_uid, &answer.container_name);
        let found = timeout(STATUS, self.pod(uid, container)).await.map_err(|_| {
            AttestError::Pod(format!(
                "the status of the pod {uid} does not tell of its container `{container}`"
            ))
        })?;
        Ok(pod::selectors(&found?, container))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{IoSliceMut, Read},
        os::unix::net as blocking,
    };

    /// A pod, and what becomes of it when somebody waits for a change.
    struct OnePod(watch::Receiver<()>, Box<dyn Fn() -> Option<Pod> + Send + Sync>);

    #[async_trait::async_trait]
    impl Pods for OnePod {
        async fn of_uid(&self, uid: &str) -> Result<Option<Pod>, String> {
            Ok((self.1)().filter(|pod| pod.metadata.uid.as_deref() == Some(uid)))
        }

        fn changes(&self) -> watch::Receiver<()> {
            self.0.clone()
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "orders-1", "namespace": "shop", "uid": "u1"},
            "spec": {"serviceAccountName": "orders", "nodeName": "node-1", "containers": [{"name": "main", "image": "orders:1"}]},
            "status": {"containerStatuses": [{"name": "main", "image": "orders:1", "imageID": "", "containerID": "r://1",
                "ready": true, "restartCount": 0}]},
        }))
        .unwrap()
    }

    /// A node that takes one question and answers `answer`, once it has seen that the connection came along.
    fn node(answer: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attest.sock");
        let listener = blocking::UnixListener::bind(&path).unwrap();
        let handle = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
            rustix::net::recvmsg(
                &stream,
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                rustix::net::RecvFlags::empty(),
            )
            .unwrap();
            assert_eq!(&byte, b"?");
            let mut fds = ancillary.drain().filter_map(|message| match message {
                rustix::net::RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            });
            let mut peer = blocking::UnixStream::from(fds.next().unwrap().remove(0));
            let mut seen = [0];
            peer.read_exact(&mut seen).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            seen[0]
        });
        (dir, path, handle)
    }

    async fn attested(answer: &'static str, pod: Option<Pod>) -> Result<BTreeSet<Selector>, AttestError> {
        let (_changed, changes) = watch::channel(());
        attested_among(answer, OnePod(changes, Box::new(move || pod.clone()))).await
    }

    async fn attested_among(answer: &'static str, pods: OnePod) -> Result<BTreeSet<Selector>, AttestError> {
        use std::io::Write;
        let (_dir, path, handle) = node(answer);
        let (ours, mut theirs) = blocking::UnixStream::pair().unwrap();
        theirs.write_all(&[42]).unwrap();
        let attestor = NodeAttestor::new(path, Box::new(pods));
        let result = attestor.attest(&Caller::of(&ours).unwrap()).await;
        assert_eq!(handle.join().unwrap(), 42, "the node got the very connection");
        result
    }

    #[tokio::test]
    async fn the_node_is_asked_with_the_connection_itself() {
        let selectors = attested(
            r#"{"podUID":"u1","containerID":"c","containerName":"main"}"#,
            Some(pod()),
        )
        .await
        .unwrap();
        assert!(selectors.contains(&Selector::new("k8s", "sa:orders")), "{selectors:?}");
        assert!(
            selectors.contains(&Selector::new("k8s", "container-name:main")),
            "{selectors:?}"
        );
    }

    /// The workload can be quicker than the status of its pod.
    #[tokio::test]
    async fn the_status_is_waited_for() {
        let (changed, changes) = watch::channel(());
        let asked = std::sync::atomic::AtomicU32::new(0);
        let pods = OnePod(
            changes,
            Box::new(move || {
                let mut pod = pod();
                if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
                    pod.status = None;
                    changed.send(()).unwrap();
                }
                Some(pod)
            }),
        );
        let selectors = attested_among(r#"{"podUID":"u1","containerName":"main"}"#, pods)
            .await
            .unwrap();
        assert!(
            selectors.contains(&Selector::new("k8s", "container-name:main")),
            "{selectors:?}"
        );
    }

    #[tokio::test]
    async fn a_process_outside_of_pods_shows_nothing_and_failures_are_told() {
        assert!(attested("{}", None).await.unwrap().is_empty());
        let node = attested(r#"{"error":"it has ended"}"#, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(node.contains("it has ended"), "{node}");
        assert!(attested("no json", None).await.is_err());
        let gone = attested(r#"{"podUID":"u2"}"#, Some(pod()))
            .await
            .unwrap_err()
            .to_string();
        assert!(gone.contains("u2"), "{gone}");
    }
}
