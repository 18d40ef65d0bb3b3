//! The state machine alone.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    super::{
        snapshot::{Phase, StepState},
        state::{Effect, Event, State},
        topics::Topic,
    },
    judged, judgement, loot, wiretap,
};
use crate::{
    lab::{Lab, Opens},
    score::Points,
    verdict::Finding,
};

fn event() -> impl Strategy<Value = Event> {
    let finding = prop::sample::select(vec![Finding::NoTraffic, Finding::WrongAnswer, Finding::NotHeld]);
    prop_oneof![
        2 => (0..3_u64).prop_map(|epoch| Event::Deployed { epoch }),
        1 => Just(Event::Reset),
        2 => (0..6_usize).prop_map(|step| Event::ResetStep { step }),
        1 => Just(Event::Paused),
        1 => Just(Event::Resumed),
        1 => (0..3_u64).prop_map(|epoch| Event::Failed { epoch, why: "why".to_owned() }),
        4 => (0..6_usize, 0..5_usize, "[a-z]{0,5}").prop_map(|(step, check, value)| Event::Answered { step, check, value }),
        4 => (0..6_usize, 0..5_usize).prop_map(|(step, hint)| Event::HintOpened { step, hint }),
        20 => (0..3_u64, 0..6_usize, 0..5_usize, any::<bool>(), finding).prop_map(|(epoch, step, check, passed, finding)| {
            Event::Judged { epoch, step, check, judgement: judgement(passed, finding) }
        }),
        4 => (0..3_u64, "[0-9]{1,2}").prop_map(|(epoch, value)| Event::Looted { epoch, loot: loot(value) }),
        2 => (0..6_usize).prop_map(|step| Event::Solved { step }),
        2 => Just(Event::Changed(Topic::All)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_score_stays_in_bounds_and_the_journal_tells_all(events in prop::collection::vec(event(), 0..200)) {
        let lab = wiretap();
        let mut state = State::new(lab.clone());
        let mut journal = Vec::new();
        for event in &events {
            for effect in state.apply(event) {
                if let Effect::Record(event) = effect {
                    journal.push(event);
                }
            }
            let score = state.score();
            prop_assert!(score.earned <= score.possible);
            prop_assert_eq!(score.possible, Points(100));
            if matches!(event, Event::Reset) {
                prop_assert_eq!(score.earned, Points(0));
            }
            for (at, step) in lab.steps.iter().enumerate() {
                let open = state.step_state(at) != StepState::Locked;
                let needs = step.needs.iter().all(|need| state.passed(*need));
                prop_assert_eq!(open, needs, "a step is open when what it needs is passed");
            }
        }
        let mut replayed = State::new(lab);
        for event in &journal {
            replayed.apply(event);
        }
        prop_assert_eq!(replayed.durable(), state.durable());
        prop_assert_eq!(replayed.score(), state.score());
    }

    #[test]
    fn a_result_of_an_earlier_epoch_changes_nothing(step in 0..5_usize, check in 0..4_usize) {
        let mut state = State::new(wiretap());
        state.apply(&Event::Deployed { epoch: 0 });
        state.apply(&Event::Reset);
        let before = state.durable();
        let late = Event::Judged { epoch: 0, step, check, judgement: judgement(true, Finding::Expected) };
        prop_assert!(state.apply(&late).is_empty());
        prop_assert_eq!(state.apply(&Event::Looted { epoch: 0, loot: loot("1".to_owned()) }), []);
        prop_assert_eq!(state.apply(&Event::Deployed { epoch: 0 }), []);
        prop_assert_eq!(state.durable(), before);
        prop_assert_eq!(state.phase(), &Phase::Resetting);
    }
}

#[test]
fn a_passed_check_keeps_its_points_and_shows_what_is_now() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    state.apply(&judged(0, 0, true, Finding::Expected));
    assert_eq!(state.score().earned, Points(10));
    state.apply(&judged(0, 0, false, Finding::NotHeld));
    assert_eq!(state.score().earned, Points(10));
    let check = &state.steps()[0].checks[0];
    assert!(check.latched.as_ref().unwrap().passed() && !check.live.as_ref().unwrap().passed());
}

#[test]
fn a_locked_step_is_not_judged_and_opens_with_what_it_needs() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    assert_eq!(state.step_state(1), StepState::Locked);
    state.apply(&judged(1, 0, true, Finding::Expected));
    assert_eq!(state.score().earned, Points(0));
    state.apply(&judged(0, 0, true, Finding::Expected));
    let effects = state.apply(&judged(0, 1, true, Finding::Expected));
    assert!(effects.contains(&Effect::Recheck(Topic::Step(1))));
    assert_eq!(
        (state.step_state(0), state.step_state(1)),
        (StepState::Passed, StepState::Open)
    );
}

#[test]
fn hints_open_by_what_was_found_and_cost_when_asked_for() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    assert_eq!(state.next_hint(0), Some((2, Points(3))));
    let other = Finding::WrongAnswer;
    for finding in [other, other, Finding::NoTraffic] {
        assert_eq!(state.steps()[0].hints, [0_usize; 0], "nothing was done yet");
        state.apply(&judged(0, 0, false, finding));
    }
    assert_eq!(state.steps()[0].hints, [0]);
    state.apply(&judged(0, 0, true, Finding::Expected));
    assert_eq!(state.earned(0), Points(10), "what opened by itself costs nothing");
    state.apply(&Event::HintOpened { step: 0, hint: 2 });
    assert_eq!(state.earned(0), Points(7));
    assert_eq!(state.next_hint(0), None);
}

#[test]
fn a_failure_that_was_there_from_the_beginning_opens_a_hint_when_the_check_is_asked_for() {
    let mut state = State::new(wiretap());
    state.apply(&Event::Deployed { epoch: 0 });
    let failed = judged(0, 0, false, Finding::NoTraffic);
    state.apply(&failed);
    state.apply(&failed);
    assert_eq!(state.steps()[0].hints, [0_usize; 0], "the student has done nothing");
    state.ask(None);
    state.apply(&failed);
    assert_eq!(state.steps()[0].hints, [0]);
    let asked = |state: &State, at: usize| state.steps()[at].checks.iter().any(|check| check.asked);
    let locked = (0..state.steps().len()).find(|at| state.step_state(*at) == StepState::Locked);
    assert!(!asked(&state, locked.unwrap()), "a step that is closed was not meant");
}

#[test]
fn what_only_was_not_done_yet_opens_a_hint_when_asked_for_and_so_does_a_hint_that_waits_for_that() {
    let lab = |finding, asked| {
        let mut lab = Lab::clone(&wiretap());
        lab.steps[0].hints[0].opens = Opens::When {
            check: 0,
            finding,
            asked,
        };
        State::new(Arc::new(lab))
    };
    let opened = |state: &mut State, finding| {
        state.apply(&Event::Deployed { epoch: 0 });
        state.apply(&judged(0, 0, false, Finding::WrongAnswer));
        state.apply(&judged(0, 0, false, finding));
        let before = state.steps()[0].hints.len();
        state.ask(None);
        state.apply(&judged(0, 0, false, finding));
        (before, state.steps()[0].hints.len())
    };
    let (did, not_yet) = (Finding::NoTraffic, Finding::NoCall);
    assert_eq!(opened(&mut lab(did, false), did), (1, 1));
    assert_eq!(opened(&mut lab(did, true), did), (0, 1));
    assert_eq!(opened(&mut lab(not_yet, false), not_yet), (0, 1));
}

#[test]
fn going_back_to_a_step_drops_it_and_what_needs_it_and_no_more() {
    let lab = wiretap();
    let mut state = State::new(lab.clone());
    let mut put_aside = Vec::new();
    let mut feed = |state: &mut State, event: Event| {
        for effect in state.apply(&event) {
            if let Effect::PutAside { start } = effect {
                put_aside.push(start);
            }
        }
    };
    feed(&mut state, Event::Deployed { epoch: 0 });
    feed(
        &mut state,
        Event::Looted {
            epoch: 0,
            loot: loot("1".to_owned()),
        },
    );
    for (at, step) in lab.steps.iter().enumerate() {
        for check in 0..step.checks.len() {
            feed(&mut state, judged(at, check, true, Finding::Expected));
        }
        feed(
            &mut state,
            Event::Looted {
                epoch: 0,
                loot: loot(format!("{at}x")),
            },
        );
    }
    assert_eq!(state.score().earned, Points(100));
    let opened: Vec<&str> = put_aside
        .iter()
        .flat_map(|start| &start.steps)
        .map(String::as_str)
        .collect();
    assert_eq!(
        opened.len(),
        lab.steps.len() - 1,
        "all but the first were opened by passing: {opened:?}"
    );
    let numbers: Vec<u32> = put_aside.iter().map(|start| start.number).collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    let (at, _) = lab.step("token").unwrap();
    let dropped = lab.needing(at);
    let start = state.start_of(at).unwrap();
    state.apply(&Event::HintOpened { step: at, hint: 1 });
    let effects = state.apply(&Event::ResetStep { step: at });
    assert!(effects.contains(&Effect::Restore {
        epoch: 1,
        to: start.clone()
    }));
    assert_eq!(state.loot().len(), 1, "what was found after it was opened is forgotten");
    for step in 0..lab.steps.len() {
        assert_eq!(state.passed(step), !dropped.contains(&step), "{step}");
    }
    assert_eq!(state.steps()[at].hints, [1], "what was paid for was read");
    assert_eq!(state.start_of(at), Some(start), "it can be gone back to again");
    assert!(
        dropped.len() > 1
            && dropped
                .iter()
                .all(|step| *step == at || state.start_of(*step).is_none())
    );
    assert_eq!(
        state.apply(&judged(at, 0, true, Finding::Expected)),
        [],
        "a late result of before"
    );
    assert_eq!(state.back_to().map(|start| start.number), Some(numbers[0]));
    state.apply(&Event::Deployed { epoch: 1 });
    assert_eq!((state.back_to(), state.phase()), (None, &Phase::Ready));
}
