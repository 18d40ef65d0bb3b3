//! Asking a SPIRE server by its own command line, in its own container: whoever may exec there may ask, and nobody else.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::AsyncReadExt;

use super::find::Part;

/// Where SPIRE's image has it.
const PROGRAM: &str = "/opt/spire/bin/spire-server";
/// Bytes of an answer that are read.
const LONGEST: u64 = 64 << 20;
/// Bytes of what is said beside an answer that are read.
const SAID: u64 = 16 << 10;
/// How long a command may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Why the server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The command cannot be run in the pod.
    #[error("cannot run `spire-server {command}` in the pod {place}: {source}")]
    Exec {
        /// The command.
        command: String,
        /// `namespace/pod`.
        place: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The command failed.
    #[error("`spire-server {command}` in the pod {place} failed: {said}")]
    Failed {
        /// The command.
        command: String,
        /// `namespace/pod`.
        place: String,
        /// What it said.
        said: String,
    },
    /// The command prints something else.
    #[error("`spire-server {command}` in the pod {place} printed what cannot be read: {why}")]
    Unreadable {
        /// The command.
        command: String,
        /// `namespace/pod`.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The command does not end.
    #[error("`spire-server {command}` in the pod {place} did not end within {} seconds", PATIENCE.as_secs())]
    Slow {
        /// The command.
        command: String,
        /// `namespace/pod`.
        place: String,
    },
}

/// A server that can be asked.
pub(super) struct Server<'a> {
    pub(super) client: &'a kube::Client,
    pub(super) part: &'a Part,
    /// The admin socket, where its configuration names another than SPIRE's default.
    pub(super) socket: Option<String>,
}

impl Server<'_> {
    fn place(&self) -> String {
        format!("{}/{}", self.part.namespace, self.part.pod)
    }

    /// What a command prints.
    pub(super) async fn run(&self, command: &str) -> Result<String, AskError> {
        let mut words: Vec<String> = [PROGRAM]
            .into_iter()
            .chain(command.split_whitespace())
            .map(str::to_owned)
            .collect();
        if let Some(socket) = &self.socket {
            words.extend(["-socketPath".to_owned(), socket.clone()]);
        }
        match tokio::time::timeout(PATIENCE, self.exec(command, words)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Slow {
                command: command.to_owned(),
                place: self.place(),
            }),
        }
    }

    async fn exec(&self, command: &str, words: Vec<String>) -> Result<String, AskError> {
        let params = AttachParams::default()
            .container(&self.part.container)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.part.namespace);
        let mut process = api
            .exec(&self.part.pod, words, &params)
            .await
            .map_err(|source| AskError::Exec {
                command: command.to_owned(),
                place: self.place(),
                source: Box::new(source),
            })?;
        let (stdout, stderr, status) = (process.stdout(), process.stderr(), process.take_status());
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        tokio::join!(read(stdout, LONGEST, &mut answer), read(stderr, SAID, &mut said));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        if status.as_ref().and_then(|status| status.status.as_deref()) == Some("Success") {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let said = if said.is_empty() {
            status.and_then(|status| status.message).unwrap_or_default()
        } else {
            said
        };
        Err(AskError::Failed {
            command: command.to_owned(),
            place: self.place(),
            said: crate::text::one_line(said.lines().next().unwrap_or("without a word")),
        })
    }

    /// A command's answer, read.
    pub(super) async fn ask<T>(
        &self,
        command: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, AskError> {
        let answer = self.run(command).await?;
        read(&answer).map_err(|why| AskError::Unreadable {
            command: command.to_owned(),
            place: self.place(),
            why: crate::text::one_line(&why),
        })
    }
}

async fn read(stream: Option<impl tokio::io::AsyncRead + Unpin>, longest: u64, into: &mut Vec<u8>) {
    if let Some(stream) = stream {
        // What came before it broke off is judged by the exit status.
        let _ = stream.take(longest).read_to_end(into).await;
    }
}
