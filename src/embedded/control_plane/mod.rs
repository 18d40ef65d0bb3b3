//! The control plane: storage, API server, controllers, scheduler.

pub mod api;
pub mod apiserver;
pub mod controllers;
pub(crate) mod node_selector;
pub mod pki;
pub(crate) mod quota;
pub mod rbac;
pub mod reboot;
pub(crate) mod schedule;
pub mod scheduler;
pub mod snapshot;
pub mod storage;
pub(crate) mod volume_binding;
pub(crate) mod volume_dirs;
