//! Notices that a lab's file was edited while a session with it runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{driver::Session, snapshot::NoticeLevel};
use crate::catalog;

/// How often the lab's file is compared with what it was when the session began.
const COMPARE: Duration = Duration::from_secs(1);

/// The lab as it was when the session began.
#[derive(Clone, Debug, Default)]
pub struct Pinned {
    /// The hash of its text.
    pub hash: String,
    /// Its file; none for a lab in the binary.
    pub file: Option<PathBuf>,
    /// Whether it says something else now.
    pub changed: bool,
}

impl Session {
    /// Notices that the lab's file says something else than when the session began, and that it does not any more.
    pub(super) async fn keep_comparing(self: Arc<Self>) {
        let Some(file) = self.pinned.file.clone() else {
            return;
        };
        loop {
            tokio::time::sleep(COMPARE).await;
            let (file, hash) = (file.clone(), self.pinned.hash.clone());
            let differs = move || catalog::open(&file).map_or(true, |found| found.hash() != hash);
            let Ok(changed) = tokio::task::spawn_blocking(differs).await else {
                return;
            };
            let mut core = self.core();
            if core.lab_changed == changed {
                continue;
            }
            core.lab_changed = changed;
            let text = if changed {
                edited(self.lab().id.as_str())
            } else {
                "the lab's file is again what it was when you began".to_owned()
            };
            core.notice(NoticeLevel::Warning, text);
            drop(core);
            self.touch();
        }
    }
}

/// What a student is told whose lab was edited: what goes on, and what the choice is.
pub(super) fn edited(id: &str) -> String {
    format!(
        "the lab's file has changed since you began: you go on with the lab as it was then; \
         `ztlab lab start {id} --fresh` begins anew with the changed one, and forgets your progress"
    )
}
