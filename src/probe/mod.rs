//! Probes: one question put to the network from inside a pod, and what came back.
//!
//! A probe runs in the pod's observer, so it meets the same DNS, Services and policies as the pod's own programs.

mod ask;
pub mod pki;
mod port;
mod request;
mod resolve;
mod tls;

pub use request::{HttpProbe, ProbeKind, ProbeRequest, TlsIdentity, TlsOptions, TlsProbe, fresh_id};

use std::{
    io::{BufRead, Read},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use crate::lab::{StartTls, TlsVersion};
use crate::{
    capture::{CaptureError, observer},
    evidence::{ProbeOutcome, ProbeResult},
};

/// Bytes that an observer's answer may have.
const RESULT_BYTES: u64 = 1 << 20;
/// Bytes that a request may have.
const REQUEST_BYTES: u64 = 1 << 20;
/// Time that starting a probe may take beside the probe itself.
const OVERHEAD: Duration = Duration::from_secs(5);

/// Runs a probe from inside a pod.
///
/// Whatever the network does is a result; so is an observer that breaks off ([`ProbeOutcome::NotRun`]).
///
/// # Errors
/// The pod cannot be observed.
pub async fn run(client: &kube::Client, request: ProbeRequest) -> Result<ProbeResult, CaptureError> {
    let observer = observer::ensure(client, &request.namespace, &request.pod).await?;
    run_in(&observer, request).await
}

/// [`run`] through an observer that is known to run.
///
/// # Errors
/// The observer cannot be reached.
pub async fn run_in(observer: &observer::Observer, request: ProbeRequest) -> Result<ProbeResult, CaptureError> {
    let mut json = serde_json::to_string(&request).map_err(|error| observer.failed(error.to_string()))?;
    json.push('\n');
    let mut process = observer.exec(vec!["probe".to_owned()]).await?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (process.stdin(), process.stdout(), process.stderr()) else {
        return Err(observer.failed("its streams are missing"));
    };
    // Not on the command line: a request may hold a private key, and every process of the node can read those. The
    // stream stays open: the other side may take its end for the end of the probe.
    let asked = async { stdin.write_all(json.as_bytes()).await.and(stdin.flush().await) };
    let (mut answer, mut said) = (Vec::new(), Vec::new());
    let (mut stdout, mut stderr) = (stdout.take(RESULT_BYTES), stderr.take(4096));
    let read = async { tokio::join!(asked, stdout.read_to_end(&mut answer), stderr.read_to_end(&mut said)) };
    let reason = match tokio::time::timeout(request.timeout + OVERHEAD, read).await {
        Err(_) => "the observer did not answer in time".to_owned(),
        Ok(_) => match serde_json::from_slice::<ProbeResult>(&answer) {
            Ok(result) => return Ok(result),
            Err(_) if said.is_empty() => "the observer broke off".to_owned(),
            Err(_) => String::from_utf8_lossy(&said).trim().to_owned(),
        },
    };
    Ok(ask::result(&request, ProbeOutcome::NotRun { reason }))
}

/// The stage in the pod: runs the probe that a line of standard input describes and prints its result.
pub(crate) fn stage() -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(REQUEST_BYTES)
        .read_line(&mut line)
        .map_err(|error| format!("cannot read what to probe: {error}"))?;
    let request: ProbeRequest = serde_json::from_str(&line).map_err(|error| format!("not a probe: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let result = runtime.block_on(ask::ask(&request));
    let line = serde_json::to_string(&result).map_err(|error| error.to_string())?;
    println!("{line}");
    Ok(())
}
