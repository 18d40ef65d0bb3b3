//! Lifecycle hooks, and the way a container is ended: hook, turn, signal, and after the grace the signal that nothing survives.
//!
//! Source: Kubernetes' "Container Lifecycle Hooks" and "Pod Lifecycle", termination of pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use tokio::{sync::watch, time::Instant};

use super::{
    exchange::{self, Get},
    probes::Target,
    program,
    worker::{SIGKILL, SIGTERM},
};
use crate::node::runtime::{Exited, Runtime};

/// A container whose hook has used up its grace has this long between the signals.
const LEAST: Duration = Duration::from_secs(2);

/// Runs a hook to its end.
///
/// # Errors
/// Why it failed.
pub async fn run(hook: &LifecycleHandler, target: &Target) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let argv = exec.command.clone().unwrap_or_default();
        let ended = program::run(&target.runtime, &target.instance, argv).await?;
        return match ended.code {
            0 => Ok(()),
            code => Err(format!("exited with {code}: {}", ended.said)),
        };
    }
    if let Some(action) = &hook.http_get {
        // Whatever the answer says: that there was one counts.
        let get = Get::new(action, target.ip, &target.container, "kube-lifecycle")?;
        return get.send().await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if let Some(tcp) = &hook.tcp_socket {
        exchange::port(&tcp.port, &target.container)?;
        return Err("invalid handler: tcpSocket is no lifecycle hook".to_owned());
    }
    Err("invalid handler: no action is given".to_owned())
}

/// How one container is ended.
pub struct Ending {
    /// The runtime.
    pub runtime: Runtime,
    /// The container's instance.
    pub instance: String,
    /// Its end.
    pub exited: Exited,
    /// When its grace is over; it may come nearer.
    pub deadline: watch::Receiver<Instant>,
    /// Its `preStop` hook, where it has one and the time for it.
    pub hook: Option<(LifecycleHandler, Target)>,
    /// The containers that are to end before it.
    pub after: Vec<Exited>,
}

impl Ending {
    /// Ends the container; `failed` hears of a hook that failed.
    pub async fn run(mut self, failed: impl FnOnce(String) + Send) {
        let mut exited = self.exited.clone();
        tokio::select! {
            _ = exited.wait() => {}
            () = self.work(failed) => {}
        }
    }

    async fn work(&mut self, failed: impl FnOnce(String) + Send) {
        let began = Instant::now();
        let grace = self.deadline.borrow().saturating_duration_since(began);
        if let Some((hook, target)) = &self.hook {
            tokio::select! {
                result = run(hook, target) => if let Err(why) = result { failed(why) },
                () = passed(&mut self.deadline) => {}
            }
        }
        if !self.after.is_empty() {
            let others = futures::future::join_all(self.after.iter_mut().map(Exited::wait));
            tokio::select! {
                _ = others => {}
                () = passed(&mut self.deadline) => {}
            }
        }
        // One that has just ended by itself needs no signal.
        let _ = self.runtime.signal_container(&self.instance, SIGTERM).await;
        let least = Instant::now() + LEAST.min(grace);
        passed(&mut self.deadline).await;
        tokio::time::sleep_until(least).await;
        let _ = self.runtime.signal_container(&self.instance, SIGKILL).await;
    }
}

/// Waits for a moment that may come nearer meanwhile.
async fn passed(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                return tokio::time::sleep_until(at).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_comes_nearer() {
        let far = Instant::now() + Duration::from_secs(3600);
        let (sender, mut deadline) = watch::channel(far);
        let waiting = tokio::spawn(async move { passed(&mut deadline).await });
        sender.send(Instant::now()).unwrap();
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap()
            .unwrap();
    }
}
