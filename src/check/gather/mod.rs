//! Collecting what a check is judged by.

mod calls;
mod layer;
mod object;
mod pods;
mod probes;
mod store;

use std::{path::PathBuf, sync::Arc};

use tokio::sync::OnceCell;

use super::{Evidence, ExecFound, FileFound, Loot, run, work};
use crate::{
    cluster::no_progress,
    evidence::CaptureEvidence,
    lab::{Answer, Check, CheckKind, ExecCheck, FileCheck, Question, Seen},
    posture::{self, Matrix, Memory, Scope},
    probe,
};

pub use object::is_students;
pub use pods::{pods_of, pods_of_source, running_pod};
pub use store::read_store;

/// The longest a program of a check may run.
const EXEC: std::time::Duration = std::time::Duration::from_secs(10);

/// What a check can look at.
#[derive(Clone)]
pub struct Scene {
    /// The cluster.
    pub client: kube::Client,
    /// The lab's namespace.
    pub namespace: String,
    /// The student's work directory, where there is one.
    pub work: Option<PathBuf>,
    /// What the student's captures saw.
    pub seen: Arc<CaptureEvidence>,
    /// The secrets found since the session began.
    pub loot: Arc<[Loot]>,
    /// What is to be measured of the posture.
    pub scope: Scope,
    /// What earlier measurements saw of rotations.
    pub memory: Arc<Memory>,
    /// The measurement, once for all checks of a round.
    pub posture: Posture,
}

/// A measurement of the posture, made by whoever needs it first.
pub type Posture = Arc<OnceCell<Result<Arc<Matrix>, String>>>;

impl Scene {
    async fn measured(&self) -> Result<Arc<Matrix>, String> {
        let measure = async || {
            let measured = posture::measure_again(&self.client, &self.scope, &self.memory, &no_progress()).await;
            measured.map(Arc::new).map_err(|error| error.to_string())
        };
        self.posture.get_or_init(measure).await.clone()
    }
}

/// Why nothing could be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The cluster's API refused or failed.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// No pod to look from, or at.
    #[error("no pod of {0} is running")]
    NoPod(String),
    /// A probe could not be made.
    #[error(transparent)]
    Probe(#[from] crate::capture::CaptureError),
    /// A program could not be run.
    #[error("{0}")]
    Run(String),
    /// What a check needs beside what it looks at is not there, or is not what it should be.
    #[error("{0}")]
    Missing(String),
}

impl GatherError {
    /// An error of the API.
    pub(super) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }
}

/// Collects the evidence of a check; `given` is the student's answer, if the check is a question.
pub async fn gather(scene: &Scene, check: &Check, given: Option<String>) -> Evidence {
    let gathered = match &check.kind {
        CheckKind::Capture(_) => Ok(Evidence::Capture {
            seen: scene.seen.clone(),
            loot: scene.loot.clone(),
        }),
        CheckKind::Flow(flow) => probes::flow(scene, flow).await,
        CheckKind::Question(question) => Ok(Evidence::Answer {
            posture: predicted(scene, question, given.as_deref()).await,
            given,
            loot: scene.loot.clone(),
        }),
        CheckKind::Http(http) if http.seen == Seen::ByStudent => calls::http(scene, http).await,
        CheckKind::Http(http) => probes::http(scene, http).await,
        CheckKind::Database(database) => calls::database(scene, database).await,
        CheckKind::Tcp(tcp) => probes::tcp(scene, tcp).await,
        CheckKind::Dns(dns) => probes::dns(scene, dns).await,
        CheckKind::Tls(tls) => probes::tls(scene, tls).await,
        CheckKind::Object(object) => object::objects(scene, object).await,
        CheckKind::Certificate(certificate) => store::certificate(scene, certificate).await,
        CheckKind::File(file) => Ok(file_of(scene, file)),
        CheckKind::Exec(exec) => program(scene, exec).await,
        CheckKind::Posture(_) => scene
            .measured()
            .await
            .map(Evidence::Posture)
            .map_err(GatherError::Missing),
    };
    match gathered {
        Ok(evidence) => evidence,
        Err(GatherError::NoPod(name)) => Evidence::NoPod(name),
        Err(error) => Evidence::Unavailable(error.to_string()),
    }
}

/// What a prediction is compared with, once there is one that can be read.
async fn predicted(scene: &Scene, question: &Question, given: Option<&str>) -> Option<Result<Arc<Matrix>, String>> {
    let (Answer::Predict(prediction), Some(given)) = (&question.answer, given) else {
        return None;
    };
    prediction.read(given)?;
    if let Some(layer) = &prediction.layer
        && let Err(why) = layer::stands(scene, layer).await
    {
        return Some(Err(why));
    }
    Some(scene.measured().await)
}

fn file_of(scene: &Scene, check: &FileCheck) -> Evidence {
    let Some(dir) = &scene.work else {
        return Evidence::Unavailable("this session has no work directory".to_owned());
    };
    Evidence::File(match work::read(dir, &check.path) {
        Ok(Some(bytes)) => FileFound::There(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(None) => FileFound::Missing,
        Err(error) => FileFound::Broken(error.to_string()),
    })
}

async fn program(scene: &Scene, check: &ExecCheck) -> Result<Evidence, GatherError> {
    let namespace = check.namespace.as_deref().unwrap_or(&scene.namespace);
    let pod = running_pod(&scene.client, namespace, &check.source).await?;
    let id = probe::fresh_id();
    let argv: Vec<String> = check.run.iter().map(|word| word.replace("${probe}", &id.0)).collect();
    let ran = run::run(&scene.client, &pod, &argv, EXEC).await?;
    Ok(Evidence::Exec(ExecFound {
        pod: pods::name_of(&pod),
        command: argv.join(" "),
        code: ran.code,
        output: ran.output,
    }))
}
