//! The pod network: routed veths.
