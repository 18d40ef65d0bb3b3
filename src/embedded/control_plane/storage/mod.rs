//! The store: etcd's role.
