//! The tasks of a component, and whether they still run: one that panics ends, and nobody else would notice.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

/// The tasks of one component. A clone is another handle on the same ones.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    running: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Tasks {
    /// Starts a task, which is to run as long as the cluster.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.push(task);
    }

    /// Whether the component does all of its work.
    ///
    /// # Errors
    /// How many of its tasks do not run any more, or that none was started.
    pub fn check(&self) -> Result<(), String> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.iter().filter(|task| task.is_finished()).count() {
            _ if running.is_empty() => Err("it was not started".to_owned()),
            0 => Ok(()),
            ended => Err(format!(
                "{ended} of its {} tasks ended: see the node's log",
                running.len()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_missed() {
        let tasks = Tasks::default();
        assert!(tasks.check().is_err());
        tasks.spawn(std::future::pending());
        assert_eq!(tasks.check(), Ok(()));
        tasks.spawn(async { panic!("as it may happen") });
        while tasks.check().is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            tasks.check(),
            Err("1 of its 2 tasks ended: see the node's log".to_owned())
        );
    }
}
