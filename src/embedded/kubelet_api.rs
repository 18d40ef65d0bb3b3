//! The kubelet's streaming face: what the API server asks of the node for `logs`, `exec`, `attach` and `portforward`.
//!
//! Source: Kubernetes' kubelet server (`/containerLogs`, `/exec`, `/attach`, `/portForward`), here as a trait within one
//! process.

use std::{collections::HashSet, io};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};

/// `PodLogOptions` of core/v1.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Container name; `None` is allowed only where the pod has one container.
    pub container: Option<String>,
    /// Keep the stream open and send new lines.
    pub follow: bool,
    /// The log of the container's previous instance.
    pub previous: bool,
    /// Prefix every line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only the last N lines.
    pub tail_lines: Option<u64>,
    /// Only lines younger than this many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines since this time.
    pub since_time: Option<jiff::Timestamp>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
}

/// `PodExecOptions` and `PodAttachOptions` of core/v1.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Container name; `None` is the pod's first container.
    pub container: Option<String>,
    /// The program and its arguments; empty for attach.
    pub command: Vec<String>,
    /// Whether the client sends standard input.
    pub stdin: bool,
    /// Whether the client wants standard output.
    pub stdout: bool,
    /// Whether the client wants standard error (never with `tty`).
    pub stderr: bool,
    /// Whether to give the program a terminal.
    pub tty: bool,
}

/// How a streamed program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code (128 + N when signal N ended it).
    Code(i32),
    /// It never ran, or the node lost it; the text says why.
    Failed(String),
}

/// The streams of a program that runs in a container. Who drops them before the program has ended hangs up: its input
/// ends, and so does a program of `exec`, as one whose terminal is gone.
pub struct Streams {
    /// Its standard input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output (with a terminal: both).
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its standard error.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where to send the terminal's size as (columns, rows).
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Resolves when the program has ended.
    pub exit: BoxFuture<'static, Exit>,
}

/// What becomes of the processes of pods that have a part of the node's disk or of its own directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// They stand still, and go on where they are.
    Still,
    /// They are ended at once; their pods start again unless they are gone by then.
    Ended,
}

/// What the API server asks of a kubelet.
#[async_trait]
pub trait KubeletApi: Send + Sync {
    /// The log of a container, oldest line first.
    ///
    /// # Errors
    /// A `Status` with Kubernetes' text: container not found, still creating, no previous instance.
    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Box<Status>>;

    /// Runs a program in a container.
    ///
    /// # Errors
    /// A `Status`: container not found or not running, program not found.
    async fn exec(&self, namespace: &str, pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>>;

    /// Joins the streams of a container's own program.
    ///
    /// # Errors
    /// A `Status`: container not found or not running.
    async fn attach(&self, namespace: &str, pod: &str, options: ExecOptions) -> Result<Streams, Box<Status>>;

    /// Connects to a port on the loopback interface of a pod.
    ///
    /// # Errors
    /// Why not, in the words that `kubectl port-forward` shows.
    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<TcpStream, String>;

    /// Keeps pods from PersistentVolumes and `hostPath`s until [`release_volumes`](Self::release_volumes): their processes are
    /// held, and none is started. Returns once nothing writes there.
    ///
    /// # Errors
    /// Why it cannot be done; then nothing is held.
    async fn hold_volumes(&self, _how: Hold) -> Result<(), String> {
        Ok(())
    }

    /// Lets pods go on, but those with the uids of `gone`: they are about to be removed.
    fn release_volumes(&self, _gone: HashSet<String>) {}
}
