//! The messages and services of the gRPC APIs, made from the files in `proto/`.

#![allow(
    missing_docs,
    clippy::all,
    reason = "generated; each is documented in its .proto file"
)]

/// The SPIFFE Workload API.
pub mod workload {
    tonic::include_proto!("_");
}

/// gRPC's health checks.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Envoy's Secret Discovery Service, as far as SPIRE's agent serves it. The rooms are those of its packages: messages name
/// each other by them.
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod extensions {
        pub mod transport_sockets {
            pub mod tls {
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.transport_sockets.tls.v3");
                }
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
        pub mod secret {
            pub mod v3 {
                tonic::include_proto!("envoy.service.secret.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

/// The error model that Envoy's messages hold.
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// SPIRE's APIs.
pub mod spire {
    /// What they share.
    pub mod api {
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
        pub mod server {
            pub mod agent {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }
            pub mod bundle {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }
            pub mod entry {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }
            pub mod localauthority {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.localauthority.v1");
                }
            }
            pub mod svid {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }
            pub mod trustdomain {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.trustdomain.v1");
                }
            }
        }
    }
}

pub use envoy::{
    config::core::v3 as envoy_core,
    extensions::transport_sockets::tls::v3 as envoy_tls,
    service::{discovery::v3 as discovery, secret::v3 as secret},
    r#type::v3 as envoy_type,
};
pub use spire::api::{
    server::{
        agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, localauthority::v1 as localauthority,
        svid::v1 as svid, trustdomain::v1 as trustdomain,
    },
    types,
};
