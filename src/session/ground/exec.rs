//! Running a program in a pod, to its end.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::io::AsyncReadExt;

use super::{Live, pod_name};
use crate::session::world::{Ran, WorldError};

/// How much of what it prints is kept, in bytes.
const EXEC_OUTPUT: u64 = 64 * 1024;

/// Runs `argv` in the first container of a pod.
pub(super) async fn exec(live: &Live, pod: &Pod, argv: &[String]) -> Result<Ran, WorldError> {
    let name = pod_name(pod);
    let failed = |what: &str, error: &dyn std::fmt::Display| WorldError::new(format!("{what} in {name}: {error}"));
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let mut params = AttachParams::default().stdin(false).stdout(true).stderr(true);
    if let Some(container) = container {
        params = params.container(container.name.clone());
    }
    let api: Api<Pod> = Api::namespaced(live.handle.client.clone(), &live.namespace);
    let mut process = api
        .exec(&name, argv, &params)
        .await
        .map_err(|error| failed(&format!("run `{}`", argv.join(" ")), &error))?;
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
        .map_err(|error| failed("read what the program prints", &error))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    process
        .join()
        .await
        .map_err(|error| failed("run the program", &error))?;
    let code = match status {
        Some(status) if status.status.as_deref() == Some("Success") => 0,
        Some(status) => {
            exit_code(&status).ok_or_else(|| failed("run the program", &status.message.unwrap_or_default()))?
        }
        None => return Err(failed("run the program", &"its exit status did not arrive")),
    };
    out.append(&mut err);
    Ok(Ran {
        code,
        output: String::from_utf8_lossy(&out).into_owned(),
    })
}

/// Reads to the end, and keeps the beginning.
async fn read_some(stream: impl tokio::io::AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut limited = stream.take(EXEC_OUTPUT);
    limited.read_to_end(into).await?;
    tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The exit code in the status of an exec, where `metav1.Status` has it: a cause of type `ExitCode`.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Option<i32> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes
        .iter()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}
