use serde_json::json;

use super::*;
use crate::node::kubelet::status;

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec})).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn ended(code: i32, finished: i64) -> ContainerState {
    let ended = Ended {
        id: "1".into(),
        code,
        signal: None,
        reason: "x".into(),
        message: None,
        started_at: at(0),
        finished_at: at(finished),
    };
    ContainerState {
        phase: Phase::Ended(ended),
        started: true,
        ready: true,
        ..ContainerState::default()
    }
}

fn running() -> ContainerState {
    let phase = Phase::Running {
        id: "1".into(),
        since: at(0),
    };
    ContainerState {
        phase,
        started: true,
        ready: true,
        ..ContainerState::default()
    }
}

fn state(containers: &[(&str, ContainerState)]) -> PodState {
    PodState {
        sandbox: true,
        containers: containers
            .iter()
            .map(|(name, held)| ((*name).to_owned(), held.clone()))
            .collect(),
        ..PodState::default()
    }
}

fn start(name: &str) -> Vec<Step> {
    vec![Step::Start(Kind::Main, name.into())]
}

#[test]
fn init_containers_run_one_after_another() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]}));
    let init = |name: &str| vec![Step::Start(Kind::Init, name.into())];
    assert_eq!(next(&pod, &state(&[]), at(9)).steps, init("i"));
    assert_eq!(next(&pod, &state(&[("i", running())]), at(9)).steps, []);
    assert_eq!(next(&pod, &state(&[("i", ended(0, 1))]), at(9)).steps, init("j"));
    assert_eq!(
        next(&pod, &state(&[("i", ended(0, 1)), ("j", ended(1, 1))]), at(9)).steps,
        init("j"),
        "tried again"
    );
    assert_eq!(
        next(&pod, &state(&[("i", ended(0, 1)), ("j", ended(0, 1))]), at(9)).steps,
        start("c")
    );
}

#[test]
fn the_restart_policy_decides() {
    for (policy, code, again, phase_is) in [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        let state = state(&[("c", ended(code, 1))]);
        assert_eq!(!next(&pod, &state, at(9)).steps.is_empty(), again, "{policy} {code}");
        assert_eq!(phase(pod.spec.as_ref().unwrap(), &state), phase_is, "{policy} {code}");
    }
}

#[test]
fn restarts_wait_longer_each_time() {
    for (crashes, pause) in [
        (0, 0),
        (1, 10),
        (2, 20),
        (3, 40),
        (4, 80),
        (5, 160),
        (6, 300),
        (60, 300),
    ] {
        let held = ContainerState {
            crashes,
            ..ended(1, 100)
        };
        assert_eq!(held.restart_at(), at(100 + pause), "{crashes}");
    }
    let long = ContainerState {
        crashes: 5,
        ..ended(1, 700)
    };
    assert_eq!(long.restart_at(), at(700), "it ran for ten minutes");
    let after = |held: &ContainerState| ContainerState {
        last: held.ended().cloned(),
        ..held.clone()
    };
    assert_eq!(after(&long).crashes_after(), 1, "the pauses begin anew");
    assert_eq!(ContainerState::default().crashes_after(), 0, "nothing ended before it");
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let waiting = state(&[(
        "c",
        ContainerState {
            crashes: 1,
            ..ended(1, 100)
        },
    )]);
    let plan = next(&pod, &waiting, at(105));
    assert_eq!(plan.steps, [Step::BackOff(Kind::Main, "c".into())]);
    assert_eq!(plan.wake, Some(at(110)));
}

#[test]
fn a_pod_that_stops_starts_nothing() {
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let stopping = PodState {
        stopping: true,
        ..state(&[("c", ended(143, 1))])
    };
    assert_eq!(next(&pod, &stopping, at(9)), Next::default());
    assert_eq!(phase(pod.spec.as_ref().unwrap(), &stopping), "Failed");
}

#[test]
fn sidecars_end_last_in_reverse() {
    let pod = pod(
        json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"},
        {"name": "t", "restartPolicy": "Always"}], "containers": [{"name": "c"}], "ephemeralContainers": [{"name": "e"}]}),
    );
    let spec = pod.spec.unwrap();
    for (name, before) in [
        ("c", &[][..]),
        ("i", &[]),
        ("e", &[]),
        ("t", &["i", "c"]),
        ("s", &["i", "t", "c"]),
    ] {
        assert_eq!(ends_after(&spec, name), before, "{name}");
    }
}

#[test]
fn ephemeral_containers_run_once_and_do_not_count() {
    let pod = pod(json!({"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "e"}]}));
    let steps = next(&pod, &state(&[("c", running())]), at(9)).steps;
    assert_eq!(steps, [Step::Start(Kind::Ephemeral, "e".into())]);
    let done = state(&[("c", running()), ("e", ended(1, 1))]);
    assert_eq!(next(&pod, &done, at(9)).steps, []);
    assert_eq!(phase(pod.spec.as_ref().unwrap(), &done), "Running");
}

#[test]
fn the_status_says_what_is_so() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}]}));
    let unready = ContainerState {
        ready: false,
        ..running()
    };
    let made = status::status(
        &pod,
        &state(&[("a", running()), ("b", unready)]),
        Ipv4Addr::new(10, 244, 0, 1),
        at(5),
    );
    let ready = made
        .conditions
        .as_ref()
        .unwrap()
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.message.as_deref()),
        ("False", Some("containers with unready status: [b]"))
    );
    assert_eq!(made.phase.as_deref(), Some("Running"));
    let statuses = made.container_statuses.unwrap();
    assert_eq!(statuses.iter().map(|s| s.ready).collect::<Vec<_>>(), [true, false]);
    assert_eq!(statuses[0].container_id.as_deref(), Some("ztlab://1"));
    assert_eq!(made.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn sidecars_start_first_and_end_last() {
    let pod = pod(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "c"}]}),
    );
    let spec = pod.spec.as_ref().unwrap();
    let starting = ContainerState {
        started: false,
        ..running()
    };
    let init = |name: &str| vec![Step::Start(Kind::Init, name.into())];
    let mut begun = state(&[("s", ended(1, 1)), ("i", ended(0, 1)), ("c", running())]);
    begun.begun = true;
    for (what, held, steps, phase_is, ends) in [
        ("first the sidecar", state(&[]), init("s"), "Pending", false),
        (
            "its startup probe is awaited",
            state(&[("s", starting)]),
            vec![],
            "Pending",
            false,
        ),
        ("it runs on", state(&[("s", running())]), init("i"), "Pending", false),
        (
            "a sidecar starts again beside the containers",
            begun,
            init("s"),
            "Running",
            false,
        ),
        (
            "it is to end once they are done",
            state(&[("s", running()), ("i", ended(0, 1)), ("c", ended(0, 1))]),
            vec![],
            "Running",
            true,
        ),
        (
            "its own exit code counts for nothing",
            state(&[("s", ended(137, 2)), ("i", ended(0, 1)), ("c", ended(0, 1))]),
            vec![],
            "Succeeded",
            true,
        ),
        (
            "an init container that failed is the pod's end",
            state(&[("s", ended(0, 2)), ("i", ended(1, 1))]),
            vec![],
            "Failed",
            true,
        ),
    ] {
        assert_eq!(next(&pod, &held, at(9)).steps, steps, "{what}");
        assert_eq!(phase(spec, &held), phase_is, "{what}");
        assert_eq!(ending(spec, &held), ends, "{what}");
    }
}

#[test]
fn a_pod_past_its_deadline_fails_once_nothing_runs() {
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let spec = pod.spec.as_ref().unwrap();
    let failed = |container| PodState {
        failed: Some(Failed {
            reason: "DeadlineExceeded",
            message: "too long".into(),
        }),
        ..state(&[("c", container)])
    };
    assert_eq!(phase(spec, &failed(running())), "Running");
    let over = failed(ended(143, 1));
    assert_eq!(next(&pod, &over, at(9)), Next::default());
    let made = status::status(&pod, &over, Ipv4Addr::new(10, 244, 0, 1), at(5));
    assert_eq!(
        (made.phase.as_deref(), made.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn a_program_that_cannot_be_executed_waits_and_is_tried_again() {
    let failed = |crashes: u32| {
        let mut held = ContainerState {
            crashes,
            ..ContainerState::default()
        };
        let ended = ended(128, 5).ended().cloned().unwrap();
        held.not_started(ended, "Always");
        held
    };
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let first = failed(0);
    assert!(matches!(&first.phase, Phase::Waiting { reason, .. } if reason == "RunContainerError"));
    assert_eq!(first.last.as_ref().map(|last| last.code), Some(128));
    let held = state(&[("c", first)]);
    let waits = next(&pod, &held, at(14));
    assert_eq!((waits.steps, waits.wake), (vec![], Some(at(15))));
    assert_eq!(next(&pod, &held, at(15)).steps, start("c"));
    assert_eq!(phase(pod.spec.as_ref().unwrap(), &held), "Running");
    assert!(failed(1).ended().is_some(), "from then on it backs off");
    let mut never = ContainerState::default();
    never.not_started(ended(128, 5).ended().cloned().unwrap(), "Never");
    assert!(never.ended().is_some());
}

#[test]
fn what_is_started_again_follows_from_the_list() {
    let spec = |policy: &str| pod(json!({"restartPolicy": policy, "containers": []})).spec.unwrap();
    let plain = Container::default();
    let sidecar = Container {
        restart_policy: Some("Always".into()),
        ..Container::default()
    };
    for (policy, kind, container, expected) in [
        ("Always", Kind::Main, &plain, "Always"),
        ("Never", Kind::Main, &plain, "Never"),
        ("OnFailure", Kind::Main, &plain, "OnFailure"),
        ("Always", Kind::Init, &plain, "OnFailure"),
        ("Never", Kind::Init, &plain, "Never"),
        ("Never", Kind::Init, &sidecar, "Always"),
        ("Always", Kind::Ephemeral, &plain, "Never"),
    ] {
        assert_eq!(
            restart_policy_of(&spec(policy), kind, container),
            expected,
            "{policy} {kind:?}"
        );
    }
}
