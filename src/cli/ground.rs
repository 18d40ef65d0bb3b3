//! Where a lab runs: the options that choose it, and the manifests as they are there.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{error::CliError, output::Output};
use crate::{
    catalog,
    cluster::{self, GroundKind},
    session::{
        Topologies,
        command::Refusal,
        site::{self, Choice, ContextChoice},
        world::WorldError,
    },
};

/// `--ground …`
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The ground; without it, where the lab was left, else embedded
    #[arg(long, value_enum, value_name = "GROUND")]
    pub ground: Option<Ground>,
    /// A context of the kubeconfig, for `--ground context`
    #[arg(long, value_name = "NAME", requires = "ground", required_if_eq("ground", "context"))]
    pub context: Option<String>,
    /// The kubeconfig that has the context [default: what KUBECONFIG lists, else ~/.kube/config]
    #[arg(long, value_name = "FILE", requires = "context")]
    pub kubeconfig: Option<PathBuf>,
    /// How manifests are changed there.
    #[command(flatten)]
    pub shape: Shape,
}

/// `--namespace-prefix …`
#[derive(Debug, Clone, Default, Args)]
pub struct Shape {
    /// Put this before the names of the lab's namespaces on a context, so that students can share a cluster
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub namespace_prefix: String,
    /// A registry that has the images of ztlab.dev, for a context
    #[arg(long, value_name = "REGISTRY")]
    pub images: Option<String>,
}

/// The grounds, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ground {
    /// The small Kubernetes in this program
    Embedded,
    /// Any cluster of a kubeconfig
    Context,
}

impl Ground {
    fn kind(self) -> GroundKind {
        match self {
            Self::Embedded => GroundKind::Embedded,
            Self::Context => GroundKind::Context,
        }
    }
}

impl Place {
    /// The ground's name for the session host; empty where none is chosen.
    ///
    /// # Errors
    /// When a context is chosen on a ground that has none.
    pub fn ground(&self) -> Result<String, CliError> {
        if self.ground == Some(Ground::Embedded) && self.context.is_some() {
            return Err(CliError::with_hint(
                "--context is for the ground `context`",
                "give --ground context with it",
            ));
        }
        Ok(self.ground.map_or_else(String::new, |ground| ground.kind().to_string()))
    }

    /// The context that is chosen. The session host has another environment and another directory than this command: it is
    /// told whole paths.
    ///
    /// # Errors
    /// When the directory of this command cannot be found.
    pub fn context(&self) -> Result<Option<ContextChoice>, CliError> {
        let Some(name) = &self.context else {
            return Ok(None);
        };
        let files = match &self.kubeconfig {
            Some(file) => vec![file.clone()],
            None => cluster::kubeconfigs(),
        };
        let whole = files
            .into_iter()
            .map(std::path::absolute)
            .collect::<Result<Vec<_>, _>>();
        let kubeconfigs = whole.map_err(|error| CliError::new(format!("find the kubeconfig: {error}")))?;
        Ok(Some(ContextChoice {
            name: name.clone(),
            kubeconfigs,
            prefix: self.shape.namespace_prefix.clone(),
            images: self.shape.images.clone(),
        }))
    }
}

fn refused(error: WorldError) -> CliError {
    Refusal::from(error).into()
}

/// Prints the manifests of a lab.
///
/// # Errors
/// When there is no such lab, or no namespace can have such a name.
pub fn manifests(id: &str, shape: &Shape, out: &Output) -> Result<ExitCode, CliError> {
    let told = |error: catalog::CatalogError| match error.hint() {
        Some(hint) => CliError::with_hint(error, hint),
        None => CliError::new(error),
    };
    let cwd = std::env::current_dir().ok();
    let found = catalog::find(id, cwd.as_deref()).map_err(told)?;
    let lab = found.load(&Topologies).map_err(told)?;
    let choice = Choice {
        ground: GroundKind::Context,
        context: Some(ContextChoice {
            prefix: shape.namespace_prefix.clone(),
            images: shape.images.clone(),
            ..ContextChoice::default()
        }),
    };
    let mut transform = choice.transform(&lab, "").map_err(refused)?;
    // They say whose they are only once they are somebody's.
    transform.labels.clear();
    let objects = transform.objects(site::objects(&lab).map_err(refused)?);
    if out.json() {
        out.value(&serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for object in &objects {
        let text = serde_yaml::to_string(object).map_err(|error| CliError::new(format!("write YAML: {error}")))?;
        out.line(format!("---\n{}", text.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}
