//! Limits that control groups hold pods to, where version 2 counts memory and processes: as root, and as an ordinary user to whom a
//! part of the hierarchy is delegated. Whether a machine has that is no choice of whoever runs the tests, so that it is skipped,
//! with a word, where it has not.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use lab::{Lab, ORDINARY, pod};
use serde_json::{Value, json};

/// A part of the hierarchy for one user, in which this process is while it is there.
struct Delegated {
    path: PathBuf,
    before: PathBuf,
}

impl Delegated {
    /// Made as systemd makes a user's: a group that hands on its controllers, with this process in one below it.
    fn to(user: Option<u32>) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
        });
        let controllers = |dir: &Path| fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let has = |dir: &Path| {
            let all = controllers(dir);
            ["memory", "pids", "cpu"]
                .iter()
                .all(|one| all.split_whitespace().any(|other| other == *one))
        };
        let Some(mount) = mount.filter(|mount| has(mount)) else {
            eprintln!("SKIPPED: this machine does not count memory and processes with control groups of version 2");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: who is not root cannot make a part of the hierarchy to try it in");
            return None;
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap()
            .to_owned();
        let path = mount.join(format!("ztlab-test-{}", std::process::id()));
        let leaf = path.join("session");
        fs::create_dir(&path).unwrap();
        let hand_on = |dir: &Path| fs::write(dir.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        hand_on(&mount);
        hand_on(&path);
        fs::create_dir(&leaf).unwrap();
        for dir in [&path, &leaf] {
            for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
                chown(dir.join(file), user, user).unwrap();
            }
        }
        fs::write(leaf.join("cgroup.procs"), "0").unwrap();
        let before = mount.join(own);
        Some(Self { path, before })
    }

    /// The groups in it but that of this process.
    fn groups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.is_dir() && !path.ends_with("session"))
            .collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        fs::write(self.before.join("cgroup.procs"), "0").unwrap();
        fs::remove_dir(self.path.join("session")).unwrap();
        fs::remove_dir(&self.path).unwrap();
    }
}

fn status(lab: &Lab, pod: &str) -> Value {
    lab.get(&["pod", pod])["status"]["containerStatuses"][0].clone()
}

fn read(path: &Path, file: &str) -> String {
    fs::read_to_string(path.join(file)).unwrap().trim().to_owned()
}

/// One test, since the process moves from group to group.
#[test]
fn limits_hold_containers_and_nothing_is_left() {
    for user in [None, Some(ORDINARY)] {
        let Some(delegated) = Delegated::to(user) else { return };
        let lab = Lab::create(user).unwrap();
        said(&lab);
        counted(&lab, &delegated);
        memory(&lab);
        processes(&lab);
        nothing_is_left(&lab, &delegated);
    }
}

/// The doctor says what holds, and the pod names no limit that does.
fn said(lab: &Lab) {
    let output = lab.ztlab(&["doctor", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let limits = &told["limits"];
    assert_eq!(
        (&limits["memory"], &limits["cpu"], &limits["why_not_more"]),
        (&json!("container"), &json!("container"), &Value::Null),
        "{told}"
    );
    let limits = json!({"memory": "64Mi", "cpu": "500m", "ephemeral-storage": "1Gi"});
    lab.apply(&[pod(
        "limited",
        json!({"resources": {"limits": limits, "requests": {"cpu": "250m", "memory": "32Mi"}}}),
        json!({}),
    )]);
    lab.ready("limited");
    lab.until("what does not hold is named", || {
        lab.get(&["pod", "limited"])["metadata"]["annotations"]["ztlab.dev/limits-not-enforced"] == "ephemeral-storage"
    });
}

/// The groups are as Kubernetes has them, and go with their pod.
fn counted(lab: &Lab, delegated: &Delegated) {
    let groups = delegated.groups();
    assert_eq!(groups.len(), 1, "{groups:?}");
    let uid = lab.get(&["pod", "limited"])["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let of_pod = groups[0].join("pods").join(&uid);
    let id = status(lab, "limited")["containerID"].as_str().unwrap().to_owned();
    let of_container = of_pod.join(id.strip_prefix("ztlab://").unwrap());
    for (group, file, expected) in [
        (&of_pod, "memory.max", "67108864"),
        (&of_pod, "cpu.max", "50000 100000"),
        (&of_container, "memory.max", "67108864"),
        (&of_container, "memory.oom.group", "1"),
        (&of_container, "pids.max", "1024"),
        (&of_container, "cpu.max", "50000 100000"),
        (&of_container, "cpu.weight", "10"),
    ] {
        assert_eq!(read(group, file), expected, "{file} of {}", group.display());
    }
    // what is run in it is counted with it
    let before: u32 = read(&of_container, "pids.current").parse().unwrap();
    let seen = lab.sh("limited", "cat /proc/self/cgroup");
    assert!(
        seen.trim()
            .ends_with(of_container.file_name().unwrap().to_str().unwrap()),
        "{seen}"
    );
    assert!(before >= 1);
    lab.kubectl(&["delete", "pod", "limited"]);
    lab.until("the group goes with the pod", || !of_pod.exists());
}

/// Who takes too much memory is ended, with all of its container and nothing else.
fn memory(lab: &Lab) {
    let limits = json!({"limits": {"memory": "64Mi"}});
    let eater = "perl -e '$x = \"x\" x 400_000_000; print \"ate it\"'";
    let eats = |name: &str, script: &str, restart: &str| {
        pod(
            name,
            json!({"command": ["sh", "-c", script], "resources": limits}),
            json!({"restartPolicy": restart}),
        )
    };
    lab.apply(&[
        pod("other", json!({"resources": limits}), json!({})),
        // the first process does not eat itself: with its child it ends all the same
        eats("eater", &format!("{eater}; echo survived"), "Never"),
        eats("host", "sleep 1000", "Always"),
    ]);
    lab.ready("other");
    lab.ready("host");
    lab.until("it ends", || lab.get(&["pod", "eater"])["status"]["phase"] == "Failed");
    let ended = status(lab, "eater")["state"]["terminated"].clone();
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("OOMKilled"), &json!(137)),
        "{ended}"
    );
    assert_eq!(lab.kubectl(&["logs", "eater"]), "");
    // so does what an exec takes
    assert!(!lab.try_sh("host", eater).status.success());
    lab.until("it is started again", || status(lab, "host")["restartCount"] == 1);
    assert_eq!(status(lab, "host")["lastState"]["terminated"]["reason"], "OOMKilled");
    lab.ready("host");
    assert_eq!(status(lab, "other")["restartCount"], 0);
    lab.sh("other", "true");
}

/// A flood of processes is refused by the group.
fn processes(lab: &Lab) {
    let bomb = "$| = 1; my $refused = 0; for (1..3000) { my $p = fork; if (!defined $p) { $refused++ } elsif (!$p) { sleep 1000; exit } } \
        print \"refused $refused\\n\"; sleep 1000";
    lab.apply(&[pod("bomb", json!({"command": ["perl", "-e", bomb]}), json!({}))]);
    lab.until("the bomb goes off", || {
        lab.kubectl(&["logs", "bomb"]).contains("refused")
    });
    let said = lab.kubectl(&["logs", "bomb"]);
    let refused: u32 = said.trim().trim_start_matches("refused ").parse().unwrap();
    assert!(refused >= 3000 - 1024, "{said}");
    lab.sh("other", "true");
}

/// However the node ends.
fn nothing_is_left(lab: &Lab, delegated: &Delegated) {
    let killed = || {
        let pid = i32::try_from(lab.node_pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let before = delegated.groups();
    killed();
    assert!(lab.ztlab(&["cluster", "start", "t"]).status.success());
    assert_eq!(
        delegated.groups(),
        before,
        "the next start takes the place of what was left"
    );
    lab.ready("other");
    let inside: Vec<_> = fs::read_dir(before[0].join("pods"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .collect();
    let pods = lab.get(&["pods"])["items"].as_array().unwrap().len();
    assert!(inside.len() <= pods, "{inside:?}");

    assert!(lab.ztlab(&["cluster", "stop", "t"]).status.success());
    assert!(delegated.groups().is_empty(), "a stopped cluster has none");
    assert!(lab.ztlab(&["cluster", "start", "t"]).status.success());
    killed();
    assert!(lab.ztlab(&["cluster", "delete", "t"]).status.success());
    assert!(delegated.groups().is_empty(), "a deleted cluster has none");
}
