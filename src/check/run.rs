//! Running a program in a pod, as `kubectl exec` does: no shell, and bounded.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{Api, api::AttachParams};
use tokio::io::AsyncReadExt;

use super::GatherError;

/// How much of what a program prints is kept, in bytes.
const OUTPUT: u64 = 64 * 1024;

/// What a program in a pod came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// The beginning of what it printed.
    pub output: String,
}

/// Runs a program in the first container of a pod.
///
/// # Errors
/// When it cannot be run, or does not end in time.
pub async fn run(client: &kube::Client, pod: &Pod, argv: &[String], limit: Duration) -> Result<Ran, GatherError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match tokio::time::timeout(limit, attached(client, pod, argv)).await {
        Ok(Ok(ran)) => Ok(ran),
        Ok(Err(why)) => Err(GatherError::Run(format!("run `{}` in {name}: {why}", argv.join(" ")))),
        Err(_) => Err(GatherError::Run(format!(
            "`{}` in {name} did not end within {} s",
            argv.join(" "),
            limit.as_secs()
        ))),
    }
}

async fn attached(client: &kube::Client, pod: &Pod, argv: &[String]) -> Result<Ran, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let mut params = AttachParams::default().stdin(false).stdout(true).stderr(true);
    if let Some(container) = container {
        params = params.container(container.name.clone());
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut process = api.exec(name, argv, &params).await.map_err(|error| error.to_string())?;
    let status = process.take_status();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let read = async |stream: Option<_>, into: &mut Vec<u8>| match stream {
        Some(stream) => read_some(stream, into).await,
        None => Ok(()),
    };
    let read_err = async {
        match stderr {
            Some(stream) => read_some(stream, &mut err).await,
            None => Ok(()),
        }
    };
    let (first, second) = tokio::join!(read(stdout, &mut out), read_err);
    first
        .and(second)
        .map_err(|error| format!("read what it prints: {error}"))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    process.join().await.map_err(|error| error.to_string())?;
    let code = match status {
        Some(status) if status.status.as_deref() == Some("Success") => 0,
        Some(status) => exit_code(&status).ok_or_else(|| status.message.unwrap_or_default())?,
        None => return Err("its exit status did not arrive".to_owned()),
    };
    out.append(&mut err);
    Ok(Ran {
        code,
        output: String::from_utf8_lossy(&out).into_owned(),
    })
}

/// Reads to the end, and keeps the beginning.
async fn read_some(stream: impl tokio::io::AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut limited = stream.take(OUTPUT);
    limited.read_to_end(into).await?;
    tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The exit code in the status of an exec, where `metav1.Status` has it: a cause of type `ExitCode`.
fn exit_code(status: &Status) -> Option<i32> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}
