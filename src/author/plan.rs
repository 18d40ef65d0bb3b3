//! Which sessions a proof takes. Pure.
//!
//! A proof waits more than it works, so that sessions side by side shorten it, until the longest lab is all that is waited for.
//! A long run is therefore lived in two halves, each in a cluster of its own. Nothing is left out: each wrong attempt is
//! made, and each solution is done after the wrong attempts of its step, in one of the two.

use std::{ops::Range, time::Duration};

use super::order;
use crate::{
    cluster::GroundKind,
    lab::{Action, Answer, Check, CheckKind, Deed, Lab, PostureCheck, Reach, Resolution, Seen, Step, Until},
};

/// How often the whole lab is lived through.
pub(super) const RUNS: u32 = 2;
/// A run that is longer is lived in halves: a cluster and the solutions that both need cost more than shorter ones win.
const LONG: Duration = Duration::from_secs(45);

// What things take, by what was seen. They decide in which order sessions begin and where a run is cut, and nothing else.
const SESSION: Duration = Duration::from_secs(8);
const RESET: Duration = Duration::from_millis(500);
const ROLLOUT: Duration = Duration::from_millis(200);
const POSTURE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_millis(1500);
const SEEN: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(100);

/// What one session is lived for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The lab in the file's order.
    Run(Run),
    /// Other orders that the steps allow.
    Orders,
}

/// A run through a lab, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Which run, from 1.
    pub number: u32,
    /// The steps, by their places in that order, that are first taken wrongly; those before are solved at once.
    pub astray: Range<usize>,
    /// Whether it begins with the untouched lab, and goes on after `astray` until the lab is reset.
    pub whole: bool,
}

/// Which sessions a proof takes. A cluster of one's own costs little: there the runs live side by side. A cluster that is
/// somebody's holds one session of a lab.
pub(super) fn sessions(lab: &Lab, ground: GroundKind) -> Vec<Vec<Stage>> {
    let count = lab.steps.len();
    let whole = |number, astray| {
        Stage::Run(Run {
            number,
            astray,
            whole: true,
        })
    };
    let mut sessions: Vec<Vec<Stage>> = match ground {
        GroundKind::Context => vec![(1..=RUNS).map(|number| whole(number, 0..count)).collect()],
        GroundKind::Embedded => {
            let cut = cut(lab);
            let later = (1..=RUNS).map(|number| vec![whole(number, cut..count)]);
            let earlier = (1..=RUNS).filter(|_| cut > 0).map(|number| {
                vec![Stage::Run(Run {
                    number,
                    astray: 0..cut,
                    whole: false,
                })]
            });
            later.chain(earlier).collect()
        }
    };
    // After a run and its reset: what was lived through before must not show.
    sessions[0].push(Stage::Orders);
    sessions
}

/// How long the longest session of a proof may take, by what the lab says.
pub fn takes(lab: &Lab) -> Duration {
    halves(lab, cut(lab)).into_iter().max().unwrap_or_default()
}

/// Before which step, by its place in the file's order, a run is cut; 0 for one that is not.
fn cut(lab: &Lab) -> usize {
    if halves(lab, 0)[0] <= LONG {
        return 0;
    }
    let cuts = 0..lab.steps.len();
    cuts.min_by_key(|cut| halves(lab, *cut).into_iter().max())
        .unwrap_or_default()
}

/// What both sessions of a run take: the one that goes on to the end, and the one that takes the steps before the cut wrongly.
fn halves(lab: &Lab, cut: usize) -> [Duration; 2] {
    let (mut later, mut earlier) = (SESSION, Duration::ZERO);
    for (place, at) in order::listed(lab).into_iter().enumerate() {
        let step = &lab.steps[at];
        let look = step.checks.iter().map(look).max().unwrap_or_default();
        let solved = look + done(&step.solution);
        let wrong: Duration = step
            .wrong
            .iter()
            .map(|attempt| look + done(&attempt.actions) + RESET)
            .sum();
        later += solved;
        if place < cut {
            earlier += solved + wrong;
        } else {
            later += wrong;
        }
    }
    [later, earlier]
}

fn done(actions: &[Action]) -> Duration {
    let takes = |action: &Action| match action {
        Action::Wait(time) => *time,
        // What comes by itself comes long before one gives up.
        Action::Until { within, .. } => *within / 4,
        Action::Capture { until, .. } => match until {
            Until::For(time) => *time,
            Until::Leak { .. } => SEEN,
        },
        Action::Deed(Deed::Certificate { .. } | Deed::File { .. } | Deed::Keep { .. }) | Action::Answer { .. } => {
            Duration::ZERO
        }
        Action::Deed(_) => ROLLOUT,
        Action::Exec { .. } => QUICK,
    };
    actions.iter().map(takes).sum()
}

fn look(check: &Check) -> Duration {
    match &check.kind {
        CheckKind::Posture(PostureCheck::Level(_)) => POSTURE + SEEN,
        CheckKind::Posture(PostureCheck::Cell { .. }) => POSTURE,
        CheckKind::Question(question) if matches!(question.answer, Answer::Predict(_)) => POSTURE,
        // An answer that does not come is waited for.
        CheckKind::Tcp(tcp) if tcp.expect != Reach::Allowed => SILENCE,
        CheckKind::Dns(dns) if dns.expect != Resolution::Resolves => SILENCE,
        CheckKind::Http(http) if http.seen == Seen::ByProbe && http.control.is_some() => SILENCE,
        _ => QUICK,
    }
}

/// Whether the solution of a step leaves something in the cluster that another step may need.
pub(super) fn changes_the_cluster(step: &Step) -> bool {
    let stays = |action: &Action| match action {
        Action::Deed(Deed::Certificate { .. } | Deed::File { .. }) => false,
        Action::Deed(_) => true,
        _ => false,
    };
    step.solution.iter().any(stays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog, session::Topologies};

    fn shipped() -> Vec<Lab> {
        let ids = catalog::shipped();
        assert!(ids.len() > 5, "{ids:?}");
        let load = |id: &String| catalog::find(id, None).unwrap().load(&Topologies).unwrap();
        ids.iter().map(load).collect()
    }

    fn runs(sessions: &[Vec<Stage>], number: u32) -> Vec<&Run> {
        let stages = sessions.iter().flatten();
        let runs = stages.filter_map(|stage| match stage {
            Stage::Run(run) => Some(run),
            Stage::Orders => None,
        });
        runs.filter(|run| run.number == number).collect()
    }

    #[test]
    fn both_runs_of_every_lab_take_each_step_wrongly_once_and_come_to_the_end_once() {
        for ground in [GroundKind::Embedded, GroundKind::Context] {
            for lab in shipped() {
                let sessions = sessions(&lab, ground);
                assert_eq!(
                    sessions
                        .iter()
                        .flatten()
                        .filter(|stage| **stage == Stage::Orders)
                        .count(),
                    1
                );
                for number in 1..=RUNS {
                    let runs = runs(&sessions, number);
                    for place in 0..lab.steps.len() {
                        let astray = runs.iter().filter(|run| run.astray.contains(&place)).count();
                        assert_eq!(astray, 1, "{} {place} {runs:?}", lab.id);
                    }
                    let whole: Vec<_> = runs.iter().filter(|run| run.whole).collect();
                    assert_eq!(whole.len(), 1, "{}", lab.id);
                    assert_eq!(whole[0].astray.end, lab.steps.len());
                }
            }
        }
    }

    #[test]
    fn only_long_labs_are_cut_and_where_it_helps() {
        for lab in shipped() {
            let cut = cut(&lab);
            let whole = halves(&lab, 0)[0];
            match lab.id.as_str() {
                "spiffe-mtls" | "layers" => assert!(cut > 0, "{}: {whole:?}", lab.id),
                "wiretap" | "spire" => assert_eq!(cut, 0, "{}: {whole:?}", lab.id),
                _ => {}
            }
            if cut > 0 {
                assert!(
                    takes(&lab) < whole * 4 / 5,
                    "{}: {:?} of {whole:?}",
                    lab.id,
                    takes(&lab)
                );
            }
        }
    }

    #[test]
    fn a_cluster_that_is_somebodys_holds_one_session() {
        for lab in shipped() {
            assert_eq!(sessions(&lab, GroundKind::Context).len(), 1);
        }
    }
}
