//! Binds pods to the node.
