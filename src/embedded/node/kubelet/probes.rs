//! Probes: whether a container has started, is alive, is ready.
//!
//! Source: Kubernetes' "Configure Liveness, Readiness and Startup Probes".

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, header::HeaderValue};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::embedded::node::runtime::{ExecConfig, Runtime};

/// The first look at a container that has just started; the next ones follow at half again the distance.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The longest distance of two looks in a probe's first period.
const EARLY_LOOK: Duration = Duration::from_millis(20);
/// The most that is read of an answer for a message, bytes.
const MOST_SHOWN: usize = 256;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Whether it has started; until then the others wait.
    Startup,
    /// Whether it is alive.
    Liveness,
    /// Whether it takes requests.
    Readiness,
}

impl Which {
    /// As events name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// One attempt failed, with this text for the event.
    Failure(String),
    /// So many successes in a row as it takes.
    Passed,
    /// So many failures in a row as it takes.
    Failed(String),
}

/// Counts successes and failures to a finding. Pure.
#[derive(Debug)]
pub struct Counter {
    successes: u32,
    failures: u32,
    needed: u32,
    allowed: u32,
}

impl Counter {
    /// A counter with a probe's thresholds.
    pub fn new(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        Self {
            successes: 0,
            failures: 0,
            needed: number(probe.success_threshold, 1),
            allowed: number(probe.failure_threshold, 3),
        }
    }

    /// Whether no attempt has counted yet.
    fn untried(&self) -> bool {
        self.successes == 0 && self.failures == 0
    }

    /// What an attempt comes to, if anything changes by it.
    pub fn count(&mut self, result: &Result<(), String>) -> Option<Finding> {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                (self.successes == self.needed).then_some(Finding::Passed)
            }
            Err(message) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                Some(if self.failures == self.allowed {
                    Finding::Failed(message.clone())
                } else {
                    Finding::Failure(message.clone())
                })
            }
        }
    }
}

/// Where a probe goes.
#[derive(Clone)]
pub struct Target {
    /// The runtime, for programs to run.
    pub runtime: Runtime,
    /// The container's instance.
    pub instance: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The container, for its named ports.
    pub container: Arc<Container>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

/// Probes until the future is dropped. `tell` hears of findings; a startup probe ends with its first success.
pub async fn run(which: Which, probe: &Probe, target: &Target, tell: impl Fn(Finding)) {
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
    let mut counter = Counter::new(probe);
    let mut counted = tokio::time::Instant::now() + period;
    let mut passed = false;
    let mut pause = FIRST_LOOK;
    loop {
        let result = attempt(probe, target).await;
        let now = tokio::time::Instant::now();
        // A program that has just been started is looked at more often, so that it is ready as soon as it is: a failure
        // of these extra looks counts for nothing.
        let early = result.is_err() && !passed && which != Which::Liveness && now < counted;
        if !early {
            counted = now + period;
            match counter.count(&result) {
                Some(Finding::Passed) => {
                    passed = true;
                    tell(Finding::Passed);
                    if which == Which::Startup {
                        return;
                    }
                }
                Some(finding) => tell(finding),
                None => {}
            }
        }
        if passed || which == Which::Liveness {
            tokio::time::sleep(period).await;
        } else {
            tokio::time::sleep(pause.min(period)).await;
            // In the first period a program is coming up and is awaited; later it is in trouble.
            let longest = if counter.untried() { EARLY_LOOK } else { period };
            pause = (pause.saturating_mul(3) / 2).min(longest);
        }
    }
}

async fn attempt(probe: &Probe, target: &Target) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let attempt = async {
        if let Some(exec) = &probe.exec {
            return run_program(exec.command.clone().unwrap_or_default(), target).await;
        }
        if let Some(http) = &probe.http_get {
            return get(http, target).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = port(&tcp.port, &target.container)?;
            let address = format!("{}:{port}", tcp.host.clone().unwrap_or_else(|| target.ip.to_string()));
            return TcpStream::connect(&address)
                .await
                .map(drop)
                .map_err(|error| format!("dial tcp {address}: {error}"));
        }
        Err("the probe has no handler that this node knows".to_owned())
    };
    tokio::time::timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Err(format!("command timed out: probe took more than {} s", limit.as_secs())))
}

async fn run_program(argv: Vec<String>, target: &Target) -> Result<(), String> {
    let config = ExecConfig {
        container: target.instance.clone(),
        argv,
        ..ExecConfig::default()
    };
    let mut process = target.runtime.exec(config).await.map_err(|error| error.to_string())?;
    let mut said = Vec::new();
    let mut buffer = vec![0; 4096];
    // Read to the end, or the program blocks; keep the beginning.
    while let Ok(count @ 1..) = process.stdout.read(&mut buffer).await {
        let room = MOST_SHOWN.saturating_sub(said.len()).min(count);
        said.extend_from_slice(&buffer[..room]);
    }
    let exit = process.exited.wait().await;
    if exit.code == 0 {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&said).into_owned())
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| format!("no such port: {port:?}"))
}

async fn get(action: &HTTPGetAction, target: &Target) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("HTTPS probes are not supported by this node: use TCP, or a health port without TLS".to_owned());
    }
    let port = port(&action.port, &target.container)?;
    let host = action
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| target.ip.to_string());
    let path = action
        .path
        .clone()
        .filter(|path| path.starts_with('/'))
        .unwrap_or_else(|| "/".to_owned());
    let url = format!("http://{host}:{port}{path}");
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{url}\": {error}");
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let _driver = Aborting(tokio::spawn(async move {
        // The exchange itself says what went wrong.
        let _ = connection.await;
    }));
    let mut request = Request::get(&path)
        .header("host", format!("{host}:{port}"))
        .header("user-agent", "kube-probe/1.33")
        .header("accept", "*/*")
        .header("connection", "close");
    for header in action.http_headers.iter().flatten() {
        if let Ok(value) = HeaderValue::from_str(&header.value) {
            request = request.header(&header.name, value);
        }
    }
    let request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        // The rest is read so that the program does not see its answer cut short.
        let mut body = response.into_body();
        let mut left = 64 << 10;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, bytes::Bytes::len);
            if size >= left {
                break;
            }
            left -= size;
        }
        return Ok(());
    }
    Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
}

/// A task that ends with its holder.
struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_decide() {
        let probe = Probe {
            success_threshold: Some(2),
            failure_threshold: Some(2),
            ..Probe::default()
        };
        let mut counter = Counter::new(&probe);
        let (good, bad) = (Ok(()), Err("x".to_owned()));
        assert_eq!(counter.count(&good), None);
        assert_eq!(counter.count(&good), Some(Finding::Passed));
        assert_eq!(counter.count(&good), None, "told once");
        assert_eq!(counter.count(&bad), Some(Finding::Failure("x".into())));
        assert_eq!(counter.count(&bad), Some(Finding::Failed("x".into())));
        assert_eq!(counter.count(&good), None);
        assert_eq!(counter.count(&good), Some(Finding::Passed));
    }

    #[test]
    fn ports_are_found_by_name_or_number() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}),
        )
        .unwrap();
        for (wanted, expected) in [
            (IntOrString::Int(80), Some(80)),
            (IntOrString::String("http".into()), Some(8080)),
            (IntOrString::String("9090".into()), Some(9090)),
            (IntOrString::String("nope".into()), None),
            (IntOrString::Int(70000), None),
        ] {
            assert_eq!(port(&wanted, &container).ok(), expected, "{wanted:?}");
        }
    }
}
