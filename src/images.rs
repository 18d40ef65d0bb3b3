//! Hands the stand-ins of [`crate::standins`] to the embedded cluster, which knows no image by name.

use crate::embedded::image::{Registry, StandIn};

struct BuiltIn;

impl Registry for BuiltIn {
    fn all(&self) -> Vec<StandIn> {
        crate::standins::ALL
            .iter()
            .map(|image| StandIn {
                name: image.name.to_owned(),
                repositories: image.repositories.iter().map(|s| (*s).to_owned()).collect(),
                entrypoint: image.entrypoint.iter().map(|s| (*s).to_owned()).collect(),
                cmd: image.cmd.iter().map(|s| (*s).to_owned()).collect(),
                env: image
                    .env
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                programs: image.programs.iter().map(|s| (*s).to_owned()).collect(),
            })
            .collect()
    }
}

/// The registry of the stand-ins built into this binary.
pub fn registry() -> std::sync::Arc<dyn Registry> {
    std::sync::Arc::new(BuiltIn)
}
