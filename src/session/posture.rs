//! The posture at the start of a lab, measured once in the background and kept beside the journal: what a report compares
//! with.

use std::{fs, io, path::Path, sync::Arc};

use super::{driver::Session, snapshot::Phase, state::State};
use crate::posture::Matrix;

/// The file of the measurement at the start of the lab.
pub const START: &str = "posture-start.json";
/// The file of the last measurement, for a lab that does not run any more.
pub const LAST: &str = "posture-last.json";

/// Writes a measurement so that the file is whole or as it was.
///
/// # Errors
/// When it cannot be written.
pub fn keep(path: &Path, matrix: &Matrix) -> io::Result<()> {
    super::write(path, &serde_json::to_vec(matrix)?)
}

/// Forgets the measurements of a session whose directory is taken for a new one.
pub(super) fn forget(dir: &Path) {
    for file in [START, LAST] {
        // Mostly there is none.
        let _ = fs::remove_file(dir.join(file));
    }
}

/// Whether nothing was done in the lab yet, as far as the session knows.
fn untouched(state: &State) -> bool {
    state.loot().is_empty()
        && state.steps().iter().all(|step| {
            let checks = &step.checks;
            !step.solved
                && checks
                    .iter()
                    .all(|check| check.latched.is_none() && check.answer.is_none())
        })
}

impl Session {
    /// Measures the posture, if the lab is at its start and that was not measured before. What does not work out is no
    /// concern of the student: the report says that it was not measured.
    pub(super) async fn measure_start(self: Arc<Self>, epoch: u64) {
        let path = self.file(START);
        let at_start = {
            let core = self.core();
            *core.state.phase() == Phase::Ready && core.state.epoch() == epoch && untouched(&core.state)
        };
        if !at_start || path.exists() {
            return;
        }
        let measured = self.world().posture(self.lab()).await;
        // A reset meanwhile took the pods away; it measures anew.
        if self.core().state.epoch() != epoch {
            return;
        }
        let kept = measured
            .map_err(|error| error.message)
            .and_then(|matrix| keep(&path, &matrix).map_err(|error| error.to_string()));
        if let Err(why) = kept {
            tracing::info!(%why, "the posture at the start is not known");
        }
    }
}
