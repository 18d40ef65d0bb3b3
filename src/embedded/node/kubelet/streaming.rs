//! Logs, exec and attach, for the API server.

use std::{io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::ResourceExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::broadcast,
};

use super::{Instance, Kubelet, lock, logs};
use crate::embedded::{
    informer::Key,
    kubelet_api::{ExecOptions, Exit, KubeletApi, LogOptions, Streams},
    node::runtime::{Attach, ContainerExit, ExecConfig, Exited, Output, RuntimeError, Started},
};

/// Bytes on their way between a container and a client.
const BUFFER: usize = 64 << 10;

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
    fn running(&self, pod: &Pod, container: Option<&str>) -> Result<(Instance, Started), Box<Status>> {
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
            Some((instance, started)) if started.exited.now().is_none() => Ok((instance, started)),
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
        let (instance, _) = self.running(&pod, options.container.as_deref())?;
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
                format!("error executing command in container: {other}"),
            ),
        })?;
        let mut exited = process.exited;
        Ok(Streams {
            stdin: process.stdin,
            stdout: Some(process.stdout),
            stderr: process.stderr,
            resize: process.resize,
            exit: Box::pin(async move { exit(exited.wait().await) }),
        })
    }

    async fn attach(&self, namespace: &str, pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>> {
        let pod = self.pod(namespace, pod)?;
        let (_, started) = self.running(&pod, options.container.as_deref())?;
        let attach = started.attach;
        if options.stdin && attach.stdin().is_none() {
            let text = "the container was not started with stdin open (spec.containers[].stdin)";
            return Err(bad_request(text));
        }
        let mut exited = started.exited.clone();
        let output = |which, exited: &Exited| outlet(attach.output(), which, exited.clone());
        Ok(Streams {
            stdin: options
                .stdin
                .then(|| -> Box<dyn tokio::io::AsyncWrite + Send + Unpin> { Box::new(inlet(&attach)) }),
            stdout: options.stdout.then(|| -> Box<dyn tokio::io::AsyncRead + Send + Unpin> {
                Box::new(output(Output::Stdout, &started.exited))
            }),
            stderr: (options.stderr && !options.tty).then(|| -> Box<dyn tokio::io::AsyncRead + Send + Unpin> {
                Box::new(output(Output::Stderr, &started.exited))
            }),
            resize: attach.resize(),
            exit: Box::pin(async move { exit(exited.wait().await) }),
        })
    }
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
fn outlet(mut output: broadcast::Receiver<(Output, Bytes)>, which: Output, mut exited: Exited) -> DuplexStream {
    let (mut near, far) = duplex(BUFFER);
    tokio::spawn(async move {
        let mut ended = false;
        loop {
            let next = tokio::select! {
                biased;
                next = output.recv() => next,
                _ = exited.wait(), if !ended => {
                    // What it wrote last may still be on its way.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    ended = true;
                    continue;
                }
                () = std::future::ready(()), if ended => return,
            };
            match next {
                Ok((from, bytes)) if from == which => {
                    if near.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    far
}

/// A container's standard input, as something to write to.
fn inlet(attach: &Attach) -> DuplexStream {
    let (mut near, far) = duplex(BUFFER);
    if let Some(stdin) = attach.stdin() {
        tokio::spawn(async move {
            let mut buffer = vec![0; 8192];
            while let Ok(count @ 1..) = near.read(&mut buffer).await {
                if stdin.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    return;
                }
            }
        });
    }
    far
}
