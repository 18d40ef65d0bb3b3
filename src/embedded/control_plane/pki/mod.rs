//! The cluster's certificates and kubeconfig.
