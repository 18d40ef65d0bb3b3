//! Volumes, users, terminals, and what is left behind.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    time::Duration,
};

use ztlab::embedded::node::runtime::{ExecConfig, Mount, MountSource, Output};

use crate::scenarios::Cluster;

pub async fn volumes_are_mounted_and_contained(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let volume = cluster.dir.join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    fs::write(volume.join("sub/inner"), "inner\n").unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("escape")).unwrap();
    let mount = |target: &str, sub_path: Option<&str>, read_only| Mount {
        source: MountSource::Dir(volume.clone()),
        target: target.into(),
        sub_path: sub_path.map(Into::into),
        read_only,
    };
    let script = "cat /data/file /sub/inner /var/run/one/file /etc/app.conf; echo new > /data/new; \
                  echo x > /sub/x || echo ro; touch /scratch/y && echo scratch; ls /made";
    let mut config = cluster.container("web", "a", &["sh", "-c", script]);
    config.mounts = vec![
        mount("/data", None, false),
        mount("/sub", Some("sub"), true),
        mount("/var/run/one", None, true),
        mount("/etc/app.conf", Some("file"), true),
        mount("/made", Some("made/here"), false),
        Mount {
            source: MountSource::Tmpfs { size_bytes: 1 << 20 },
            target: "/scratch".into(),
            sub_path: None,
            read_only: false,
        },
    ];
    let (end, text) = cluster.run(config).await;
    assert_eq!(end.code, 0, "{text}");
    for expected in ["content\ninner\ncontent\ncontent\n", "ro", "scratch"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "new\n");
    assert!(volume.join("made/here").is_dir());
    for (target, sub_path) in [
        ("/x", "escape"),
        ("/x", "escape/made"),
        ("/x", "../.."),
        ("relative", "sub"),
        ("/a/../b", "sub"),
        ("/", "sub"),
    ] {
        let mut config = cluster.container("web", "b", &["true"]);
        config.mounts = vec![mount(target, Some(sub_path), false)];
        let answer = cluster.runtime.start_container(config).await;
        assert!(answer.is_err(), "{target} {sub_path}");
    }
    assert!(!Path::new("/etc/made").exists());
    let mut config = cluster.container("web", "c", &["true"]);
    config.mounts = vec![mount("/usr/share/no-such-place/x", None, false)];
    let error = cluster.runtime.start_container(config).await.err().unwrap();
    assert!(error.to_string().contains("/usr/share/no-such-place"), "{error}");
}

pub async fn a_container_runs_as_another_user(cluster: Cluster) {
    const NONE: &str = "CapEff:\t0000000000000000";
    cluster.pod("web", 5).await;
    let script = "id -u; id -g; grep CapEff /proc/self/status; touch /tmp/x && echo tmp; echo $HOME";
    let mut config = cluster.container("web", "a", &["sh", "-c", script]);
    config.uid = Some(1000);
    config.gid = Some(3000);
    config.no_new_privileges = true;
    let (_, text) = cluster.run(config).await;
    assert_eq!(text, format!("1000\n3000\n{NONE}\ntmp\n/"));
    let mut config = cluster.container("web", "b", &["serve", "0.0.0.0:80", "low"]);
    config.uid = Some(1000);
    cluster.start_container(config).await;
    cluster.wait_for("b", "listening").await;
    let (code, text) = cluster
        .exec("b", &["sh", "-c", "id -u; grep CapEff /proc/self/status"])
        .await;
    assert_eq!((code, text), (0, format!("1000\n{NONE}\n")));
    assert_eq!(
        cluster.exec("b", &["ask", "127.0.0.1:80"]).await.1,
        "low to 127.0.0.1\n"
    );
    let script = "grep -E 'Cap(Eff|Bnd)|NoNew' /proc/self/status";
    let mut config = cluster.container("web", "c", &["sh", "-c", script]);
    config.cap_drop = vec!["ALL".to_owned()];
    config.no_new_privileges = true;
    let (_, text) = cluster.run(config).await;
    assert_eq!(text, format!("{NONE}\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1"));
}

pub async fn a_terminal_container_is_attached_to(cluster: Cluster) {
    cluster.pod("web", 5).await;
    // the shell tells of every change of size until it is the one that was sent
    let script = "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.01; done; read line; echo got $line; stty size";
    let mut config = cluster.container("web", "a", &["sh", "-c", script]);
    config.tty = true;
    config.stdin = true;
    let mut started = cluster.start_container(config).await;
    let mut output = started.attach.output();
    started.attach.resize().unwrap().send((120, 40)).await.unwrap();
    started.attach.stdin().unwrap().send("word\n".into()).await.unwrap();
    assert_eq!(started.exited.wait().await.code, 0);
    let mut text = String::new();
    while let Ok((_, bytes)) = output.try_recv() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(text.contains("got word\r\n40 120\r\n"), "{text:?}");
    let mut config = cluster.container("web", "b", &["cat"]);
    config.stdin = true;
    let mut started = cluster.start_container(config).await;
    let stdin = started.attach.stdin().unwrap();
    stdin.send("piped\n".into()).await.unwrap();
    stdin.send(Default::default()).await.unwrap();
    assert_eq!(started.exited.wait().await.code, 0);
    assert_eq!(cluster.logged("b"), [("stdout".to_owned(), "piped".to_owned())]);
}

pub async fn a_program_is_hung_up_when_nobody_waits_for_it(cluster: Cluster) {
    cluster.pod("web", 5).await;
    cluster.idle("web", "a").await;
    let long = seconds(&cluster.dir);
    let exec = |script: String| ExecConfig {
        container: "a".to_owned(),
        argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        ..ExecConfig::default()
    };
    let gone = async |left: usize| {
        for _ in 0..6000 {
            if marked(&long) == left {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} processes are left", marked(&long));
    };
    // with its children
    let process = cluster
        .runtime
        .exec(exec(format!("sleep {long} & wait")))
        .await
        .unwrap();
    gone(2).await;
    drop(process);
    gone(0).await;
    // one that asked to go on does
    let process = cluster
        .runtime
        .exec(exec(format!("exec nohup sleep {long}")))
        .await
        .unwrap();
    gone(1).await;
    let mut exited = process.exited.clone();
    drop(process);
    let ended = tokio::time::timeout(Duration::from_secs(2), exited.wait()).await;
    assert!(ended.is_err(), "{ended:?}");
    cluster.runtime.remove_container("a").await.unwrap();
    gone(0).await;
}

pub async fn who_is_attached_misses_nothing(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let mut config = cluster.container("web", "a", &["sh", "-c", "read go; seq 300000"]);
    config.stdin = true;
    let started = cluster.start_container(config).await;
    let mut output = started.attach.join(Output::Stdout);
    started.attach.stdin().unwrap().send("go\n".into()).await.unwrap();
    // the container is far ahead of who reads only now
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut text = Vec::new();
    while let Some(bytes) = output.recv().await {
        text.extend_from_slice(&bytes);
    }
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(
        text == expected.as_bytes(),
        "{} of {} bytes",
        text.len(),
        expected.len()
    );
    assert!(
        started.attach.join(Output::Stdout).recv().await.is_none(),
        "it has ended"
    );
}

fn entries(dir: &str) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
}

pub async fn a_removed_sandbox_leaves_nothing(cluster: Cluster) {
    let open = || entries("/proc/self/fd").count();
    let processes = || entries("/proc").filter(|name| name.parse::<u32>().is_ok()).count();
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let devices = || fs::read_to_string("/proc/thread-self/net/dev").unwrap().lines().count();
    let (before, mounted, interfaces) = (open(), mounts(), devices());
    for round in 0..3 {
        cluster.pod("web", 5).await;
        let script = "trap '' TERM; sleep 1000 & sleep 1000 & wait";
        cluster
            .start_container(cluster.container("web", "a", &["sh", "-c", script]))
            .await;
        cluster.runtime.signal_container("a", 15).await.unwrap();
        let sleep = ExecConfig {
            container: "a".to_owned(),
            argv: vec!["sleep".to_owned(), "1000".to_owned()],
            ..ExecConfig::default()
        };
        let _left_running = cluster.runtime.exec(sleep).await.unwrap();
        assert!(processes() > 2, "round {round}");
        cluster.runtime.remove_sandbox("web").await.unwrap();
    }
    // the kernel takes the network namespaces down in its own time
    for _ in 0..1000 {
        if (processes(), open(), devices()) == (1, before, interfaces) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((processes(), open(), devices()), (1, before, interfaces));
    assert_eq!(mounts(), mounted);
}

pub async fn many_pods_start(cluster: Cluster) {
    const PODS: u8 = 60;
    let begin = std::time::Instant::now();
    let start = |n: u8| {
        let cluster = &cluster;
        async move {
            let id = format!("pod-{n}");
            cluster.pod(&id, n).await;
            cluster
                .start_container(cluster.container(&id, &id, &["sleep", "1000"]))
                .await
        }
    };
    let started = futures::future::join_all((1..=PODS).map(start)).await;
    eprintln!("{PODS} pods in {:?}", begin.elapsed());
    assert!(started.iter().all(|container| container.exited.now().is_none()));
    let begin = std::time::Instant::now();
    let ids: Vec<String> = (1..=PODS).map(|n| format!("pod-{n}")).collect();
    futures::future::join_all(ids.iter().map(|id| cluster.runtime.remove_sandbox(id))).await;
    eprintln!("removed in {:?}", begin.elapsed());
}

pub async fn a_flood_of_processes_is_ended_by_the_node(cluster: Cluster) {
    cluster.pod("flood", 5).await;
    cluster.pod("web", 6).await;
    cluster.idle("web", "other").await;
    // one that stays under the bound goes on, and one whose processes have a user of their own is counted too
    let sleepers = |count: u32| format!("for i in $(seq {count}); do sleep 1000 & done; echo all; wait");
    let few = cluster.container("web", "few", &["sh", "-c", &sleepers(100)]);
    let mut few = cluster.start_container(few).await;
    for (id, uid) in [("root", None), ("user", Some(1000))] {
        let mut config = cluster.container("flood", id, &["sh", "-c", &sleepers(1500)]);
        config.uid = uid;
        let mut flood = cluster.start_container(config).await;
        let end = tokio::time::timeout(Duration::from_secs(60), flood.exited.wait()).await;
        let end = end.unwrap();
        assert_eq!((end.code, end.signal), (137, Some(9)), "{id}");
        assert_eq!(
            cluster.exec("other", &["echo", "served"]).await,
            (0, "served\n".to_owned())
        );
    }
    cluster.wait_for("few", "all").await;
    let ended = tokio::time::timeout(Duration::from_secs(1), few.exited.wait()).await;
    assert!(ended.is_err(), "{ended:?}");
}

/// The node's side: pods with processes of every sort, until it is killed from outside ([`kill_node`]).
pub async fn a_killed_node_leaves_nothing(cluster: Cluster) {
    let long = seconds(cluster.dir.parent().unwrap());
    let mut running = Vec::new();
    for n in 1..=5 {
        let pod = format!("pod-{n}");
        cluster.pod(&pod, n).await;
        let script = format!("sleep {long} & setsid sleep {long} & trap '' TERM HUP; wait");
        cluster
            .start_container(cluster.container(&pod, &pod, &["sh", "-c", &script]))
            .await;
        let mut config = cluster.container(&pod, &format!("{pod}-user"), &["sleep", &long]);
        config.uid = Some(1000);
        cluster.start_container(config).await;
        let sleep = ExecConfig {
            container: pod,
            argv: vec!["sleep".to_owned(), long.clone()],
            ..ExecConfig::default()
        };
        running.push(cluster.runtime.exec(sleep).await.unwrap());
    }
    fs::write(cluster.dir.parent().unwrap().join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

/// How long the processes of a scenario in `dir` sleep, in seconds: a number that tells them from all others.
pub fn seconds(dir: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    (1_000_000_000 + hasher.finish() % 1_000_000_000).to_string()
}

/// Processes of this PID namespace whose command line holds `mark`.
pub fn marked(mark: &str) -> usize {
    entries("/proc")
        .filter(|name| name.parse::<u32>().is_ok())
        .filter_map(|pid| fs::read(Path::new("/proc").join(pid).join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

/// The outer side, in the node's mount namespace and the host's PID namespace: kills the node with SIGKILL once its pods
/// run. Who started this process then looks for survivors.
pub fn kill_node(pid: rustix::process::Pid, dir: &Path) -> u8 {
    // /proc here is the node's: it shows its pods while it lives
    while !dir.join("ready").exists() || marked(&seconds(dir)) < 25 {
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).unwrap();
        assert!(ended.is_none(), "the node ended before its pods ran");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
    0
}
