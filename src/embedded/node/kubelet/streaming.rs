//! Logs, exec, attach and port-forward, for the API server.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::ResourceExt;
use rustix::net::AddressFamily;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    sync::mpsc,
};

use super::{Instance, Kubelet, hold, lock, logs};
use crate::{
    informer::Key,
    kubelet_api::{ExecOptions, Exit, Hold, KubeletApi, LogOptions, Streams},
    node::runtime::{Attach, ContainerExit, ExecConfig, Exited, Output, RuntimeError, Started},
};

/// Bytes on their way between a container and a client.
const BUFFER: usize = 64 << 10;
/// How long an output may be quiet after its program's end until it is taken for ended.
const QUIET: Duration = Duration::from_secs(1);

fn failure(code: i32, reason: &str, message: impl Into<String>) -> Box<Status> {
    Box::new(Status {
        status: Some("Failure".to_owned()),
        code: Some(code),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        ..Status::default()
    })
}

fn bad_request(message: impl Into<String>) -> Box<Status> {
    failure(400, "BadRequest", message)
}

fn exit(ended: ContainerExit) -> Exit {
    Exit::Code(ended.code)
}

/// The names of a pod's containers: main, init, ephemeral.
fn names(pod: &Pod) -> (Vec<String>, Vec<String>, Vec<String>) {
    let spec = pod.spec.clone().unwrap_or_default();
    (
        spec.containers.into_iter().map(|c| c.name).collect(),
        spec.init_containers.into_iter().flatten().map(|c| c.name).collect(),
        spec.ephemeral_containers
            .into_iter()
            .flatten()
            .map(|c| c.name)
            .collect(),
    )
}

impl Kubelet {
    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Box<Status>> {
        let pod = self.inner.informers.pods.get(&Key::new(namespace, name));
        pod.ok_or_else(|| failure(404, "NotFound", format!("pods \"{name}\" not found")))
    }

    fn instance(&self, pod: &Pod, container: &str) -> Option<Instance> {
        lock(&self.inner.instances)
            .get(&pod.uid().unwrap_or_default())?
            .get(container)
            .cloned()
    }

    /// The container that exec and attach mean.
    fn running(&self, pod: &Pod, container: Option<&str>) -> Result<(String, Instance, Started), Box<Status>> {
        let (main, init, ephemeral) = names(pod);
        let name = match container.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => main.first().cloned().unwrap_or_default(),
        };
        if !main.iter().chain(&init).chain(&ephemeral).any(|known| *known == name) {
            return Err(bad_request(format!(
                "container {name} is not valid for pod {}",
                pod.name_any()
            )));
        }
        let instance = self.instance(pod, &name);
        match instance.and_then(|instance| instance.started.clone().map(|started| (instance, started))) {
            Some((instance, started)) if started.exited.now().is_none() => Ok((name, instance, started)),
            _ => Err(failure(404, "NotFound", format!("container not found (\"{name}\")"))),
        }
    }
}

#[async_trait]
impl KubeletApi for Kubelet {
    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Box<Status>> {
        let pod = self.pod(namespace, pod)?;
        let (main, init, ephemeral) = names(&pod);
        let name = match &options.container {
            Some(name) if !name.is_empty() => name.clone(),
            _ if main.len() == 1 && init.is_empty() && ephemeral.is_empty() => main[0].clone(),
            _ if main.len() == 1 => main[0].clone(),
            _ => {
                return Err(bad_request(format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    pod.name_any(),
                    main.join(" ")
                )));
            }
        };
        if !main.iter().chain(&init).chain(&ephemeral).any(|known| *known == name) {
            return Err(bad_request(format!(
                "container {name} is not valid for pod {}",
                pod.name_any()
            )));
        }
        let Some(instance) = self.instance(&pod, &name) else {
            return Err(bad_request(format!(
                "container \"{name}\" in pod \"{}\" is waiting to start: {}",
                pod.name_any(),
                waiting_reason(&pod, &name)
            )));
        };
        let attempt = if options.previous {
            instance.attempt - 1
        } else {
            instance.attempt
        };
        let path = self.inner.log_file(&pod, &name, attempt);
        if attempt < 0 || (options.previous && !path.exists()) {
            return Err(bad_request(format!(
                "previous terminated container \"{name}\" in pod \"{}\" not found",
                pod.name_any()
            )));
        }
        let live = instance
            .started
            .filter(|_| !options.previous)
            .map(|started| logs::Live {
                attach: started.attach,
                exited: started.exited,
            });
        logs::stream(path, options, live).await.map_err(|error| {
            failure(
                500,
                "InternalError",
                format!("read the log of container \"{name}\": {error}"),
            )
        })
    }

    async fn exec(&self, namespace: &str, pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>> {
        let pod = self.pod(namespace, pod)?;
        if hold::persists(&pod) {
            self.released().await;
        }
        let (_, instance, _) = self.running(&pod, options.container.as_deref())?;
        let config = ExecConfig {
            container: instance.id,
            argv: options.command,
            tty: options.tty,
            stdin: options.stdin,
            ..ExecConfig::default()
        };
        let process = self.inner.runtime.exec(config).await.map_err(|error| match error {
            RuntimeError::NoSuchContainer { .. } => failure(404, "NotFound", "container not found: it has just ended"),
            other => failure(
                500,
                "InternalError",
                format!("Internal error occurred: error executing command in container: {other}"),
            ),
        })?;
        let (mut exited, hangup) = (process.exited, process.hangup);
        Ok(Streams {
            stdin: process.stdin,
            stdout: Some(process.stdout),
            stderr: process.stderr,
            resize: process.resize,
            exit: Box::pin(async move {
                let _while_awaited = hangup;
                exit(exited.wait().await)
            }),
        })
    }

    async fn attach(&self, namespace: &str, pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>> {
        let pod = self.pod(namespace, pod)?;
        let (name, _, started) = self.running(&pod, options.container.as_deref())?;
        let attach = started.attach;
        if options.stdin && attach.stdin().is_none() {
            let text = "the container was not started with stdin open (spec.containers[].stdin)";
            return Err(bad_request(text));
        }
        let mut exited = started.exited.clone();
        let output = |which| -> Box<dyn tokio::io::AsyncRead + Send + Unpin> {
            Box::new(outlet(attach.join(which), started.exited.clone()))
        };
        let once = stdin_once(&pod, &name);
        Ok(Streams {
            stdin: options
                .stdin
                .then(|| -> Box<dyn tokio::io::AsyncWrite + Send + Unpin> { Box::new(inlet(&attach, once)) }),
            stdout: options.stdout.then(|| output(Output::Stdout)),
            stderr: (options.stderr && !options.tty).then(|| output(Output::Stderr)),
            resize: attach.resize(),
            exit: Box::pin(async move { exit(exited.wait().await) }),
        })
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<TcpStream, String> {
        let pod = self
            .pod(namespace, pod)
            .map_err(|status| status.message.unwrap_or_default())?;
        let sandbox = pod.uid().unwrap_or_default();
        let mut failed = Vec::new();
        let loopback: [(&str, IpAddr); 2] = [
            ("IPv4: dial tcp4", Ipv4Addr::LOCALHOST.into()),
            ("IPv6: dial tcp6", Ipv6Addr::LOCALHOST.into()),
        ];
        for (words, address) in loopback {
            let address = SocketAddr::new(address, port);
            match self.dial(&sandbox, address).await {
                Ok(connection) => return Ok(connection),
                Err(why) => failed.push(format!("{words} {address}: {why}")),
            }
        }
        Err(format!(
            "failed to execute portforward in network namespace \"{sandbox}\": failed to connect to localhost:{port} \
             inside namespace \"{sandbox}\", {}",
            failed.join(" ")
        ))
    }

    async fn hold_volumes(&self, how: Hold) -> Result<(), String> {
        self.hold(how).await
    }

    fn release_volumes(&self, gone: HashSet<String>) {
        self.release(gone);
    }
}

impl Kubelet {
    async fn dial(&self, sandbox: &str, address: SocketAddr) -> Result<TcpStream, String> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = self.inner.runtime.pod_socket(sandbox, family).await;
        let connected = socket.map_err(|error| error.to_string())?.connect(address).await;
        let connection = connected.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => format!("connect: {error}"),
        })?;
        // Whoever types through a forward is not to wait for more.
        let _ = connection.set_nodelay(true);
        Ok(connection)
    }
}

/// Whether a container's input closes for good with the first client that was attached to it.
fn stdin_once(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let main = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let main = main.map(|known| (&known.name, known.stdin_once));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|known| (&known.name, known.stdin_once));
    main.chain(ephemeral)
        .any(|(name, once)| name == container && once == Some(true))
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let all = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ];
    all.into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
        .and_then(|status| status.state?.waiting?.reason)
        .unwrap_or_else(|| "ContainerCreating".to_owned())
}

/// One of a container's outputs, as bytes to read.
fn outlet(mut output: mpsc::Receiver<Bytes>, mut exited: Exited) -> DuplexStream {
    let (mut near, far) = duplex(BUFFER);
    tokio::spawn(async move {
        loop {
            let quiet = async {
                exited.wait().await;
                tokio::time::sleep(QUIET).await;
            };
            let next = tokio::select! {
                biased;
                next = output.recv() => next,
                // Its output ends with it, unless what it left behind holds on to it.
                () = quiet => return,
            };
            let Some(bytes) = next else { return };
            if near.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    far
}

/// A container's standard input, as something to write to; with `once`, its end is the end of the container's input.
fn inlet(attach: &Attach, once: bool) -> DuplexStream {
    let (mut near, far) = duplex(BUFFER);
    if let Some(stdin) = attach.stdin() {
        tokio::spawn(async move {
            let mut buffer = vec![0; 8192];
            while let Ok(count @ 1..) = near.read(&mut buffer).await {
                if stdin.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    return;
                }
            }
            if once {
                // An empty message closes it; a program that is gone needs none.
                let _ = stdin.send(Bytes::new()).await;
            }
        });
    }
    far
}
