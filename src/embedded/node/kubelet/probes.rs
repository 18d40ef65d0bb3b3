//! Probes: whether a container has started, is alive, is ready.
//!
//! Source: Kubernetes' "Configure Liveness, Readiness and Startup Probes".

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{
    exchange::{self, Get},
    health, program,
};
use crate::node::runtime::Runtime;

/// The first look at a container that has just started; the next ones follow at half again the distance.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The longest distance of two looks in a probe's first period.
const EARLY_LOOK: Duration = Duration::from_millis(20);

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
    if let Some(exec) = &probe.exec {
        let argv = exec.command.clone().unwrap_or_default();
        let words = argv.join(" ");
        return match tokio::time::timeout(limit, program::run(&target.runtime, &target.instance, argv)).await {
            Ok(Ok(ended)) if ended.code == 0 => Ok(()),
            Ok(Ok(ended)) => Err(ended.said),
            Ok(Err(why)) => Err(why),
            Err(_) => {
                let limit = limit.as_secs();
                Err(format!("command timed out: {words:?} timed out after {limit}s"))
            }
        };
    }
    if let Some(action) = &probe.http_get {
        let get = Get::new(action, target.ip, &target.container, "kube-probe")?;
        let Ok(status) = tokio::time::timeout(limit, get.send()).await else {
            let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Err(format!("Get \"{}\": {late}", get.url()));
        };
        return match status? {
            status if status.is_success() || status.is_redirection() => Ok(()),
            status => Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = exchange::port(&tcp.port, &target.container)?;
        let named = tcp.host.clone().filter(|host| !host.is_empty());
        let host = named.unwrap_or_else(|| target.ip.to_string());
        return match tokio::time::timeout(limit, exchange::dial(&host, port)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port number: {}", grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return health::check(target.ip, port, service, limit).await;
    }
    Err("missing probe handler".to_owned())
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
}
