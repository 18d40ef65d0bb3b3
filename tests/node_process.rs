//! The node process: it starts for an ordinary user, is found, ends on demand, and leaves nothing when it is killed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use ztlab::embedded::{
    NodeConfig,
    rootless::{
        Holder, NodeHandle, RootlessError, SpawnOptions, bind, holder, running_node, settled_node, spawn_node,
        stop_node,
    },
};

/// A node's whole life is in namespaces that this machine may refuse: then the test says so and is skipped, except in CI.
fn started(dir: &Path) -> Option<NodeHandle> {
    let options = SpawnOptions {
        config: NodeConfig::new("test", dir.to_owned()),
        program: Some(env!("CARGO_BIN_EXE_ztlab").into()),
    };
    match spawn_node(&options, bind(options.config.port).unwrap()) {
        Ok(started) => Some(started.node),
        Err(RootlessError::Refused { reason, hint }) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {reason}; {hint}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

#[test]
fn a_node_starts_is_found_and_stops() {
    let dir = dir();
    let Some(node) = started(dir.path()) else { return };
    assert_eq!(running_node(dir.path()), Some(node));
    assert!(fs::read_dir(dir.path().join("run")).unwrap().next().is_none());
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
    assert_eq!(running_node(dir.path()), None);
    assert!(!Path::new(&format!("/proc/{}", node.pid)).join("exe").exists());
}

#[test]
fn a_second_node_of_a_cluster_is_refused() {
    let dir = dir();
    let Some(node) = started(dir.path()) else { return };
    let options = SpawnOptions {
        config: NodeConfig::new("test", dir.path().to_owned()),
        program: Some(env!("CARGO_BIN_EXE_ztlab").into()),
    };
    assert!(matches!(
        spawn_node(&options, bind(options.config.port).unwrap()),
        Err(RootlessError::Running { .. })
    ));
    assert_eq!(running_node(dir.path()), Some(node));
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(matches!(bind(port), Err(RootlessError::Port { port: named, .. }) if named == port));
}

#[test]
fn a_node_that_is_dying_is_waited_for() {
    let dir = dir();
    let Some(mut node) = started(dir.path()) else { return };
    for _ in 0..5 {
        let pid = rustix::process::Pid::from_raw(node.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // Its memory goes first, its lock last: what begins between the two must not take it for one that serves.
        while Path::new(&format!("/proc/{}", node.pid)).join("exe").exists() {
            std::thread::yield_now();
        }
        let next = started(dir.path()).unwrap();
        assert_ne!(next.pid, node.pid);
        node = next;
    }
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
}

#[test]
fn whoever_only_asks_keeps_no_node_from_starting() {
    let dir = dir();
    let Some(_) = started(dir.path()) else { return };
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
    assert_eq!(holder(dir.path()), Holder::Nobody);
    let asking = fs::File::open(dir.path().join("lock")).unwrap();
    rustix::fs::flock(&asking, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
    let answered = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(asking);
    });
    let node = started(dir.path()).unwrap();
    assert_eq!(holder(dir.path()), Holder::Alive(node));
    answered.join().unwrap();
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
}

#[test]
fn a_node_whose_start_was_broken_off_ends_by_itself() {
    let dir = dir();
    let Some(node) = started(dir.path()) else { return };
    stop_node(dir.path(), Duration::from_secs(10)).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let listener = bind(0).unwrap();
    let mut outer = std::process::Command::new(env!("CARGO_BIN_EXE_ztlab"))
        .arg("__node")
        .arg(dir.path().join("node.json"))
        .stdin(std::os::fd::OwnedFd::from(listener))
        .stdout(std::os::fd::OwnedFd::from(theirs))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(ours);
    outer.wait().unwrap();
    assert_eq!(settled_node(dir.path(), |_| {}), None, "it was never announced");
    let last: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("lock")).unwrap()).unwrap();
    assert_ne!(last["node"]["pid"], node.pid, "it had begun");
    assert_eq!(last["ready"], false);
}
