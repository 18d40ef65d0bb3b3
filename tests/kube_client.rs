//! The `kube` crate as a client.
