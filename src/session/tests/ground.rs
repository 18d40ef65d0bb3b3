//! Steps that the ground cannot do.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering};

use super::{
    super::{
        command::Command,
        snapshot::StepState,
        state::{Effect, Event, State},
    },
    done, host_in, judged, refused,
    scripted::Scripted,
};
use crate::{lab::Lab, score::Points, verdict::Finding};

const WHY: &str = "its network lets no pod in";

fn perimeter() -> Arc<Lab> {
    let found = crate::catalog::find("perimeter", None).unwrap();
    Arc::new(found.load(&super::host::Topologies).unwrap())
}

fn lacking() -> BTreeMap<String, String> {
    BTreeMap::from([("pod-addresses".to_owned(), WHY.to_owned())])
}

fn pass(state: &mut State, id: &str) -> Vec<Effect> {
    let at = state.lab().step(id).unwrap().0;
    let checks = 0..state.lab().steps[at].checks.len();
    let effects = checks.map(|check| state.apply(&judged(at, check, true, Finding::Expected)));
    effects.flatten().collect()
}

#[test]
fn a_step_that_the_ground_cannot_do_gives_no_points_and_keeps_nothing_closed() {
    let lab = perimeter();
    let at = |id: &str| lab.step(id).unwrap().0;
    let mut state = State::new(lab.clone());
    let effects = state.apply(&Event::Measured { lacking: lacking() });
    assert!(effects.contains(&Effect::Record(Event::Measured { lacking: lacking() })));
    state.apply(&Event::Deployed { epoch: 0 });
    let without = lab
        .points()
        .less(lab.steps[at("address")].points)
        .less(lab.steps[at("restart")].points);
    assert_eq!(state.score().possible, without);
    for id in ["address", "restart"] {
        assert_eq!(
            (state.step_state(at(id)), state.impossible(at(id))),
            (StepState::Impossible, Some(WHY))
        );
    }
    for id in ["flat", "key", "deny", "names", "labels"] {
        assert_eq!(state.step_state(at("missing")), StepState::Locked, "before {id}");
        pass(&mut state, id);
    }
    pass(&mut state, "address");
    assert_eq!(
        state.earned(at("address")),
        Points(0),
        "nothing judges what is not possible"
    );
    // `missing` needs `restart`, which needs `address`: both are behind once what `address` needs is passed.
    let effects = pass(&mut state, "wire");
    let opens = |effect: &Effect| matches!(effect, Effect::PutAside { start } if start.steps == ["missing"]);
    assert!(effects.iter().any(opens), "{effects:?}");
    pass(&mut state, "missing");
    assert_eq!(state.score().earned, without);
    state.apply(&Event::Reset);
    assert_eq!(
        state.step_state(at("address")),
        StepState::Impossible,
        "a reset makes no other network"
    );
}

#[test]
fn what_a_step_that_is_not_possible_needs_must_be_passed_all_the_same() {
    let mut lab = Lab::clone(&perimeter());
    let at = lab.step("missing").unwrap().0;
    let restart = lab.step("restart").unwrap().0;
    lab.steps[at].needs = vec![restart];
    let mut state = State::new(Arc::new(lab));
    state.apply(&Event::Measured { lacking: lacking() });
    state.apply(&Event::Deployed { epoch: 0 });
    for id in ["flat", "key", "deny"] {
        pass(&mut state, id);
        assert_eq!(state.step_state(at), StepState::Locked, "after {id}");
    }
    pass(&mut state, "names");
    assert_eq!(state.step_state(at), StepState::Open);
}

#[tokio::test]
async fn the_ground_is_measured_once_and_a_student_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(Scripted::default());
    *world.lacking.lock().unwrap() = lacking();
    let host = host_in(dir.path(), &world);
    let start = |fresh| Command::Start {
        lab: "perimeter".to_owned(),
        ground: "embedded".to_owned(),
        fresh,
        context: None,
    };
    let view = done(&host, start(false)).await;
    let step = view.steps.iter().find(|step| step.id == "address").unwrap();
    assert_eq!(
        (step.state, step.impossible.as_deref()),
        (StepState::Impossible, Some(WHY))
    );
    assert_eq!(view.score.possible, Points(85));
    assert!(
        view.log.iter().any(|notice| notice.text.contains(WHY)),
        "{:?}",
        view.log
    );
    let step = Some("address".to_owned());
    for command in [Command::Solve { step: step.clone() }, Command::Check { step }] {
        let told = refused(&host, command).await;
        assert!(
            told.contains("not possible on this ground") && told.contains(WHY),
            "{told}"
        );
    }
    done(&host, Command::Reset { step: None }).await;
    drop(host);
    // Another host reads it in the journal.
    let host = host_in(dir.path(), &world);
    let view = done(&host, start(false)).await;
    assert_eq!(view.score.possible, Points(85));
    assert_eq!(world.measured.load(Ordering::SeqCst), 1);
    // Where the lab begins anew, the ground may be another.
    world.lacking.lock().unwrap().clear();
    let view = done(&host, start(true)).await;
    assert_eq!(view.score.possible, Points(100));
    assert_eq!(world.measured.load(Ordering::SeqCst), 2);
}
