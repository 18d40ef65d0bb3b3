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

pub use spire::api::{
    server::{
        agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, localauthority::v1 as localauthority,
        svid::v1 as svid, trustdomain::v1 as trustdomain,
    },
    types,
};
