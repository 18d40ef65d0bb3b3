//! What the runtime must do, each in a cluster of its own.

use std::{fs, future::Future, net::Ipv4Addr, path::PathBuf, pin::Pin};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ztlab::embedded::node::runtime::{
    ContainerConfig, ContainerExit, ExecConfig, Mount, MountSource, Owner, Resources, Runtime, RuntimeConfig,
    RuntimeError, SandboxConfig, Started,
};

use crate::{hardening::*, network::*, policies::*};

type Scenario = fn(PathBuf) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[(&str, Scenario)] = &[$((stringify!($name), |dir| Box::pin($name(Cluster::of(stringify!($name), dir))))),*];
    };
}

scenarios![
    a_container_runs_and_is_logged,
    a_missing_program_is_named,
    a_container_sees_only_its_own,
    exec_joins_a_container,
    pods_reach_each_other,
    services_lead_to_endpoints,
    service_rules_read_back,
    a_policy_of_many_pods_changes_at_once,
    a_policy_of_too_many_pods_changes_part_by_part,
    an_observer_captures_in_a_pod,
    volumes_are_mounted_and_contained,
    a_container_runs_as_another_user,
    a_terminal_container_is_attached_to,
    who_is_attached_misses_nothing,
    a_program_is_hung_up_when_nobody_waits_for_it,
    a_removed_sandbox_leaves_nothing,
    many_pods_start,
    a_flood_of_processes_is_ended_by_the_node,
    a_killed_node_leaves_nothing,
    a_connection_is_known_by_its_container,
    a_connection_is_known_by_what_its_process_holds,
];

pub struct Cluster {
    pub dir: PathBuf,
    pub runtime: Runtime,
}

impl Cluster {
    fn of(name: &str, dir: PathBuf) -> Self {
        let config = RuntimeConfig {
            // one scenario is about kernels that do not
            kernel_counts: name != "a_flood_of_processes_is_ended_by_the_node",
            kernel_names_peers: name != "a_connection_is_known_by_what_its_process_holds",
            ..RuntimeConfig::new(dir.join("runtime"))
        };
        fs::create_dir_all(dir.join("log")).unwrap();
        let runtime = Runtime::start(config).unwrap();
        Self { dir, runtime }
    }

    pub async fn pod(&self, id: &str, last: u8) -> Ipv4Addr {
        let ip = Ipv4Addr::new(10, 244, 1, last);
        let sandbox = SandboxConfig {
            id: id.to_owned(),
            hostname: id.to_owned(),
            ip: Some(ip),
            resolv_conf: "nameserver 10.96.0.10\n".to_owned(),
            hosts: format!("127.0.0.1 localhost\n{ip} {id}\n"),
            sysctls: Vec::new(),
            resources: Resources::default(),
        };
        self.runtime.run_sandbox(sandbox).await.unwrap();
        ip
    }

    pub fn container(&self, pod: &str, id: &str, argv: &[&str]) -> ContainerConfig {
        ContainerConfig {
            id: id.to_owned(),
            sandbox: pod.to_owned(),
            name: id.to_owned(),
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            programs: ["serve", "ask", "sniff", "call"].map(str::to_owned).to_vec(),
            log: Some(self.log(id)),
            ..ContainerConfig::default()
        }
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.dir.join("log").join(id).join("0.log")
    }

    /// The log's records as (stream, text).
    pub fn logged(&self, id: &str) -> Vec<(String, String)> {
        // One that has said nothing has no file.
        let text = fs::read_to_string(self.log(id)).unwrap_or_default();
        text.lines()
            .map(|line| {
                let parts: Vec<&str> = line.splitn(4, ' ').collect();
                (parts[1].to_owned(), parts[3].to_owned())
            })
            .collect()
    }

    /// Runs a container to its end and gives its standard output.
    pub async fn run(&self, config: ContainerConfig) -> (ContainerExit, String) {
        let id = config.id.clone();
        let mut started = self.runtime.start_container(config).await.unwrap();
        let end = started.exited.wait().await;
        let text: Vec<String> = self.logged(&id).into_iter().map(|(_, text)| text).collect();
        (end, text.join("\n"))
    }

    pub async fn exec(&self, container: &str, argv: &[&str]) -> (i32, String) {
        let config = ExecConfig {
            container: container.to_owned(),
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            ..ExecConfig::default()
        };
        let mut process = self.runtime.exec(config).await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        process.stdout.read_to_string(&mut out).await.unwrap();
        process.stderr.as_mut().unwrap().read_to_string(&mut err).await.unwrap();
        (process.exited.wait().await.code, out + &err)
    }

    /// Starts a container that is to go on.
    pub async fn start_container(&self, config: ContainerConfig) -> Started {
        self.runtime.start_container(config).await.unwrap()
    }

    /// A container to exec into.
    pub async fn idle(&self, pod: &str, id: &str) {
        self.start_container(self.container(pod, id, &["sleep", "1000"])).await;
    }

    /// A container `id` of `pod` that serves `text` on `address`, ready to answer.
    pub async fn serve(&self, pod: &str, id: &str, address: &str, text: &str) {
        self.start_container(self.container(pod, id, &["serve", address, text]))
            .await;
        self.wait_for(id, "listening").await;
    }

    /// Waits until a container has written a line.
    pub async fn wait_for(&self, id: &str, line: &str) {
        for _ in 0..1000 {
            if self.logged(id).iter().any(|(_, text)| text == line) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{id} never wrote {line:?}: {:?}", self.logged(id));
    }
}

async fn a_container_runs_and_is_logged(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let config = cluster.container("web", "a", &["sh", "-c", "echo out; echo err >&2; exit 3"]);
    let mut started = cluster.runtime.start_container(config).await.unwrap();
    let end = started.exited.wait().await;
    assert_eq!((end.code, end.signal), (3, None));
    assert!(end.started_at <= end.finished_at);
    let mut logged = cluster.logged("a");
    logged.sort();
    assert_eq!(
        logged,
        [
            ("stderr".to_owned(), "err".to_owned()),
            ("stdout".to_owned(), "out".to_owned())
        ]
    );
    let config = cluster.container("web", "b", &["sh", "-c", "kill -9 $$; sleep 60"]);
    // PID 1 does not die of its own SIGKILL: the node's does it
    let mut started = cluster.runtime.start_container(config).await.unwrap();
    cluster.runtime.signal_container("b", 9).await.unwrap();
    let end = started.exited.wait().await;
    assert_eq!((end.code, end.signal), (137, Some(9)));
    cluster.runtime.remove_sandbox("web").await.unwrap();
    assert!(cluster.runtime.signal_container("b", 9).await.is_err());
}

async fn a_missing_program_is_named(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let config = cluster.container("web", "a", &["no-such-program"]);
    let error = cluster.runtime.start_container(config).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "exec: \"no-such-program\": executable file not found in $PATH"
    );
    assert!(matches!(error, RuntimeError::NotFound { .. }));
    let mut config = cluster.container("web", "a", &["true"]);
    config.sandbox = "elsewhere".to_owned();
    let error = cluster.runtime.start_container(config).await.err().unwrap();
    assert!(matches!(error, RuntimeError::NoSuchSandbox { .. }));
    // its id is free again after the failure
    let (end, _) = cluster.run(cluster.container("web", "a", &["true"])).await;
    assert_eq!(end.code, 0);
    let error = cluster
        .runtime
        .start_container(cluster.container("web", "b", &["/etc/passwd"]))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, RuntimeError::NotExecutable { .. }), "{error}");
}

async fn a_container_sees_only_its_own(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let script = "hostname; echo $$; id -u; ls /; ls -d /proc/[0-9]*; ls /home /run /mnt; cat /etc/hosts; \
                  touch /x /tmp/y && echo root-writable; touch /usr/x || echo usr-read-only; \
                  touch /usr/local/bin/x; echo 1 > /proc/sys/kernel/hostname || echo sys-read-only; umount /usr || echo kept";
    let (end, text) = cluster.run(cluster.container("web", "a", &["sh", "-c", script])).await;
    assert_eq!(end.code, 0, "{text}");
    for expected in [
        "web\n1\n0\n",
        "10.244.1.5 web",
        "root-writable",
        "usr-read-only",
        "sys-read-only",
        "kept",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let processes = text.lines().filter(|line| line.starts_with("/proc/"));
    assert_eq!(processes.collect::<Vec<_>>(), ["/proc/1"], "{text}");
    for unexpected in ["work", "docker.sock", "lost+found", "boot"] {
        assert!(!text.contains(unexpected), "{unexpected}: {text}");
    }
    let mut config = cluster.container(
        "web",
        "b",
        &["sh", "-c", "touch /x; touch /tmp/x; touch /usr/local/bin/x; true"],
    );
    config.read_only_root = true;
    let (_, text) = cluster.run(config).await;
    assert_eq!(text.matches("Read-only").count(), 3, "{text}");
    let mut config = cluster.container("web", "c", &["true"]);
    config.privileged = true;
    assert!(cluster.runtime.start_container(config).await.is_err());
}

async fn exec_joins_a_container(cluster: Cluster) {
    cluster.pod("web", 5).await;
    let mut config = cluster.container("web", "a", &["sleep", "1000"]);
    config.env.push(("COLOUR".to_owned(), "green".to_owned()));
    config.cwd = Some("/srv/app".into());
    cluster.runtime.start_container(config).await.unwrap();
    let (code, text) = cluster
        .exec(
            "a",
            &[
                "sh",
                "-c",
                "pwd; echo $COLOUR; hostname; cat /proc/1/comm; echo e >&2; exit 4",
            ],
        )
        .await;
    assert_eq!((code, text.as_str()), (4, "/srv/app\ngreen\nweb\nsleep\ne\n"));
    let missing = ExecConfig {
        container: "a".to_owned(),
        argv: vec!["nope".to_owned()],
        ..ExecConfig::default()
    };
    assert!(matches!(
        cluster.runtime.exec(missing).await.err().unwrap(),
        RuntimeError::NotFound { .. }
    ));
    let cat = ExecConfig {
        container: "a".to_owned(),
        argv: vec!["cat".to_owned()],
        stdin: true,
        ..ExecConfig::default()
    };
    let mut process = cluster.runtime.exec(cat).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"through\n").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    process.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "through\n");
    assert_eq!(process.exited.wait().await.code, 0);
    let tty = ExecConfig {
        container: "a".to_owned(),
        argv: ["sh", "-c", "tty; stty size; echo ask; read line; echo got $line"]
            .map(str::to_owned)
            .to_vec(),
        tty: true,
        stdin: true,
        size: Some((100, 30)),
        ..ExecConfig::default()
    };
    let mut process = cluster.runtime.exec(tty).await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"ask\r\n") {
        let byte = process.stdout.read_u8().await;
        asked.push(byte.unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(&asked))));
    }
    assert_eq!(String::from_utf8_lossy(&asked), "/dev/pts/0\r\n30 100\r\nask\r\n");
    // Typed at a prompt, it is echoed before it is answered.
    process.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut answered = String::new();
    process.stdout.read_to_string(&mut answered).await.unwrap();
    assert_eq!(answered, "hello\r\ngot hello\r\n");
    cluster.runtime.remove_container("a").await.unwrap();
    assert!(matches!(
        cluster
            .runtime
            .exec(ExecConfig {
                container: "a".to_owned(),
                argv: vec!["true".to_owned()],
                ..ExecConfig::default()
            })
            .await
            .err()
            .unwrap(),
        RuntimeError::NoSuchContainer { .. }
    ));
}

async fn a_connection_is_known_by_its_container(cluster: Cluster) {
    connections_have_owners(&cluster).await;
}

async fn a_connection_is_known_by_what_its_process_holds(cluster: Cluster) {
    connections_have_owners(&cluster).await;
}

async fn connections_have_owners(cluster: &Cluster) {
    let shared = cluster.dir.join("peers");
    fs::create_dir_all(&shared).unwrap();
    let socket = shared.join("socket");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let accept = async || {
        let (stream, _) = listener.accept().await.unwrap();
        std::os::fd::OwnedFd::from(stream.into_std().unwrap())
    };
    let owner = async |connection: &std::os::fd::OwnedFd| {
        let connection = connection.try_clone().unwrap();
        cluster.runtime.owner(connection).await
    };
    let is = |pod: &str, container: &str| {
        Ok(Owner {
            sandbox: pod.to_owned(),
            container: container.to_owned(),
        })
    };
    cluster.pod("one", 2).await;
    cluster.pod("two", 3).await;
    let calls = |pod: &str, id: &str, uid: Option<u32>, share: Option<&str>| ContainerConfig {
        uid,
        share_pid_with: share.map(str::to_owned),
        mounts: vec![Mount {
            source: MountSource::Dir(shared.clone()),
            target: "/peers".into(),
            sub_path: None,
            read_only: true,
        }],
        ..cluster.container(pod, id, &["call", "/peers/socket"])
    };
    // Two containers of a pod that share their processes, one that runs as another user, and a program that was run in one.
    let mut open = Vec::new();
    for (pod, id, uid, share) in [
        ("one", "a", None, None),
        ("two", "b", Some(1000), None),
        ("one", "c", None, Some("a")),
    ] {
        cluster.start_container(calls(pod, id, uid, share)).await;
        let connection = accept().await;
        assert_eq!(owner(&connection).await, is(pod, id));
        open.push(connection);
    }
    let exec = ExecConfig {
        container: "b".to_owned(),
        argv: vec!["call".to_owned(), "/peers/socket".to_owned()],
        ..ExecConfig::default()
    };
    let _running = cluster.runtime.exec(exec).await.unwrap();
    let connection = accept().await;
    assert_eq!(owner(&connection).await, is("two", "b"));
    // One that is of no pod, and one whose process has ended.
    let _own = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let connection = accept().await;
    let why = owner(&connection).await.unwrap_err();
    assert_eq!(why, "the process that connected is in no container");
    cluster.runtime.remove_container("a").await.unwrap();
    let why = owner(&open[0]).await.unwrap_err();
    assert!(why.starts_with("the process that connected has ended"), "{why}");
    assert_eq!(owner(&open[1]).await, is("two", "b"));
}
