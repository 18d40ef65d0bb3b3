//! Programs that the kubelet runs in containers, to their end: those of probes and of hooks.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::node::runtime::{ExecConfig, Runtime};

/// The most that is kept of each of a program's outputs, bytes.
const KEPT: usize = 4 << 10;
/// How long outputs may stay open after the program's end: what it left behind may hold them.
const QUIET: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 128 + N when signal N ended it.
    pub code: i32,
    /// What it said: the beginning of its output, then of its standard error.
    pub said: String,
}

/// Runs a program in a container's instance. Dropping the future kills it.
///
/// # Errors
/// No such container or program.
pub async fn run(runtime: &Runtime, instance: &str, argv: Vec<String>) -> Result<Ended, String> {
    let config = ExecConfig {
        container: instance.to_owned(),
        argv,
        killed: true,
        ..ExecConfig::default()
    };
    let mut process = runtime.exec(config).await.map_err(|error| error.to_string())?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    {
        let mut exited = process.exited.clone();
        let outputs = async {
            let stderr = async {
                if let Some(stderr) = process.stderr.as_mut() {
                    keep(stderr, &mut complained).await;
                }
            };
            tokio::join!(keep(&mut process.stdout, &mut said), stderr);
        };
        let ended = async {
            exited.wait().await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            () = outputs => {}
            () = ended => {}
        }
    }
    let exit = process.exited.wait().await;
    said.append(&mut complained);
    Ok(Ended {
        code: exit.code,
        said: String::from_utf8_lossy(&said).into_owned(),
    })
}

/// Reads to the end, or the program blocks; keeps the beginning.
async fn keep(from: &mut (impl AsyncRead + Unpin), kept: &mut Vec<u8>) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
}
