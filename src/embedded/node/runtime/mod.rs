//! The container runtime: sandboxes and containers out of namespaces, without privilege and without a daemon.
//!
//! One OS thread does all namespace work and parents all pods: the kernel's parent-death signal follows the parent
//! *thread*. A sandbox is nothing but namespace file descriptors that this thread holds; there is no pause process.

mod types;

pub use types::{
    Attach, ContainerConfig, ContainerExit, ExecConfig, Exited, Mount, MountSource, Output, Process, RuntimeConfig,
    RuntimeError, SandboxConfig, Started,
};

use std::{ffi::OsString, process::ExitCode};

/// A handle to the node's runtime; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Sets up the node's network and root file system template, and starts the runtime's thread. Called inside the
    /// cluster's namespaces.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub fn start(_config: RuntimeConfig) -> Result<Self, RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Makes a pod's shared namespaces and connects it to the pod network.
    ///
    /// # Errors
    /// A sandbox of that id exists, or the kernel refused a step.
    pub async fn run_sandbox(&self, _config: SandboxConfig) -> Result<(), RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Kills everything in a sandbox, waits for it, and frees its network. No such sandbox is no error.
    ///
    /// # Errors
    /// When the runtime has stopped.
    pub async fn remove_sandbox(&self, _id: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Starts a container; returns once its program has been executed.
    ///
    /// # Errors
    /// No such sandbox or program, a configuration that is refused, or the step that failed.
    pub async fn start_container(&self, _config: ContainerConfig) -> Result<Started, RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Sends a signal to a container's first process. As PID 1 of its namespace it gets, besides SIGKILL, only signals
    /// that it handles.
    ///
    /// # Errors
    /// No such running container.
    pub async fn signal_container(&self, _id: &str, _signal: i32) -> Result<(), RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Forgets a container that has ended; kills it first if it has not.
    ///
    /// # Errors
    /// When the runtime has stopped.
    pub async fn remove_container(&self, _id: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::Stopped)
    }

    /// Runs a program in a running container; returns once it has been executed.
    ///
    /// # Errors
    /// No such running container or program, or the step that failed.
    pub async fn exec(&self, _config: ExecConfig) -> Result<Process, RuntimeError> {
        Err(RuntimeError::Stopped)
    }
}

/// The shim that enters a container for `exec`.
pub fn exec_stage(_args: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
