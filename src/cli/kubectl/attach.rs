//! `logs` and `exec`.

use std::io::IsTerminal;

use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{AttachParams, AttachedProcess, ListParams, LogParams, TerminalSize},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
};

use super::{
    FAILED, Failure, Room,
    grammar::{Exec, Logs, targets},
};

const CHUNK: usize = 32 * 1024;
/// Where a pod says which container is meant.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A terminal in raw mode until this goes.
struct Raw;

impl Raw {
    fn enter() -> Result<Self, Failure> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

impl Room<'_> {
    pub async fn logs(&self, logs: Logs) -> Result<u8, Failure> {
        let (pods, pod) = self.pod(&logs.pod).await?;
        let params = LogParams {
            container: self.container(&pods, &pod, logs.container).await?,
            follow: logs.follow,
            previous: logs.previous,
            timestamps: logs.timestamps,
            tail_lines: logs.tail.filter(|tail| *tail >= 0),
            ..LogParams::default()
        };
        let mut written = pods.log_stream(&pod, &params).await?;
        let (mut buffer, mut stdout) = (vec![0; CHUNK], tokio::io::stdout());
        loop {
            let count = futures::AsyncReadExt::read(&mut written, &mut buffer).await?;
            if count == 0 {
                return Ok(0);
            }
            stdout.write_all(buffer.get(..count).unwrap_or_default()).await?;
            stdout.flush().await?;
        }
    }

    pub async fn exec(&self, exec: Exec) -> Result<u8, Failure> {
        let (pods, pod) = self.pod(&exec.pod).await?;
        let tty = exec.tty && exec.stdin && std::io::stdin().is_terminal();
        if exec.tty && !tty {
            self.out
                .note("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        let mut params = AttachParams::default().stdin(exec.stdin).tty(tty).stderr(!tty);
        params.container = self.container(&pods, &pod, exec.container).await?;
        let mut process = pods.exec(&pod, exec.command, &params).await?;
        let raw = if tty { Some(Raw::enter()?) } else { None };
        let status = process.take_status();
        let carried = carry(&mut process, tty).await;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        drop(raw);
        carried?;
        let status = status.ok_or_else(|| Failure::other("the connection ended before the command did"))?;
        if status.status.as_deref() == Some("Success") {
            return Ok(0);
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
        let code = code.and_then(|cause| cause.message.as_deref()?.parse::<u8>().ok());
        match code {
            Some(code) => {
                self.out.note(format!("command terminated with exit code {code}"));
                Ok(code)
            }
            None => {
                self.out.note(format!("error: {}", status.message.unwrap_or_default()));
                Ok(FAILED)
            }
        }
    }

    /// The pod that is meant: by its name, or the first of what selects it.
    async fn pod(&self, what: &str) -> Result<(Api<Pod>, String), Failure> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        if !what.contains('/') {
            return Ok((pods, what.to_owned()));
        }
        for (kind, names) in targets(&[what.to_owned()]).map_err(Failure::Other)? {
            let (Some(kind), Some(name)) = (self.kinds.named(&kind).map_err(Failure::Other)?.pop(), names.first())
            else {
                continue;
            };
            if kind.resource.kind == "Pod" {
                return Ok((pods, name.clone()));
            }
            let owner = kind.api(&self.client, &self.namespace).get(name).await?;
            let params = ListParams::default().labels(&selector(&owner.data));
            let found = pods.list(&params).await?.items;
            let running =
                |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            if let Some(pod) = found
                .iter()
                .find(running)
                .or(found.first())
                .filter(|_| !params.label_selector.as_deref().unwrap_or_default().is_empty())
            {
                return Ok((pods, pod.name_any()));
            }
        }
        Err(Failure::Other(format!("no pod found for {what}")))
    }

    async fn container(&self, pods: &Api<Pod>, pod: &str, asked: Option<String>) -> Result<Option<String>, Failure> {
        if asked.is_some() {
            return Ok(asked);
        }
        let pod = pods.get(pod).await?;
        if let Some(named) = pod.annotations().get(DEFAULT_CONTAINER) {
            return Ok(Some(named.clone()));
        }
        let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
        let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        if let [first, _, ..] = names.as_slice() {
            self.out
                .note(format!("Defaulted container \"{first}\" out of: {}", names.join(", ")));
        }
        Ok(names.first().map(|&name| name.to_owned()))
    }
}

/// The label selector by which an object finds its pods; empty where it has none.
fn selector(owner: &Value) -> String {
    let selector = owner.pointer("/spec/selector");
    let labels = selector.and_then(|selector| selector.get("matchLabels")).or(selector);
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = pairs
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    pairs.join(",")
}

/// Carries all streams until the command's end.
async fn carry(process: &mut AttachedProcess, tty: bool) -> Result<(), Failure> {
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    if let Some(mut stdin) = stdin {
        tokio::spawn(async move {
            // The command's end ends this too, with the process.
            let _ = copy(&mut tokio::io::stdin(), &mut stdin).await;
            let _ = stdin.shutdown().await;
        });
    }
    if tty && let Some(sizes) = process.terminal_size() {
        tokio::spawn(follow_size(sizes));
    }
    let out = async {
        match stdout {
            Some(mut stdout) => copy(&mut stdout, &mut tokio::io::stdout()).await,
            None => Ok(()),
        }
    };
    let err = async {
        match stderr {
            Some(mut stderr) => copy(&mut stderr, &mut tokio::io::stderr()).await,
            None => Ok(()),
        }
    };
    let (out, err) = tokio::join!(out, err);
    out.and(err)
}

async fn follow_size(mut sizes: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Ok((width, height)) = crossterm::terminal::size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_found_by_what_selects_them() {
        for (owner, expected) in [
            (
                json!({"spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}}}),
                "a=1,b=2",
            ),
            (json!({"spec": {"selector": {"a": "1"}}}), "a=1"),
            (json!({"spec": {}}), ""),
            (json!(null), ""),
        ] {
            assert_eq!(selector(&owner), expected);
        }
    }
}
