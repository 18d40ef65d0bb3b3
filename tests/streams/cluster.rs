//! A cluster, and the kubectls that talk to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::common::{Home, embedded_works, lacks, ordinary_user};

/// The longest that anything is waited for.
pub const LONG: Duration = Duration::from_secs(60);

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: box, image: 'ztlab.dev/toolbox:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: echo, image: 'ztlab.dev/toolbox:1', command: [cat], stdin: true}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: nginxdemos/hello, ports: [{containerPort: 80, name: http}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080, targetPort: http}]}
";

/// A way for kubectl to stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// kubectl on `PATH`, over WebSocket.
    WebSocket,
    /// The same over SPDY.
    Spdy,
    /// kubectl 1.20, which speaks SPDY only.
    Old,
}

/// A cluster with a few pods; it goes with the test.
pub struct Cluster {
    pub home: Home,
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// `None` where this machine lacks something, loudly.
    pub fn start(name: &str) -> Option<Self> {
        if Command::new("kubectl").arg("help").output().is_err() {
            lacks("kubectl");
            return None;
        }
        if !embedded_works() {
            return None;
        }
        let home = match ordinary_user() {
            Some(user) => Home::for_user(name, user),
            None => Home::new(name),
        };
        let made = home.ztlab(&["cluster", "create", "st"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let kubeconfig = home.path().join("state/ztlab/clusters/st/kubeconfig");
        let cluster = Self { home, kubeconfig };
        cluster.ok(Peer::WebSocket, &["apply", "-f", "-"], PODS.as_bytes());
        let wait = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"];
        cluster.ok(
            Peer::WebSocket,
            &["rollout", "status", "deploy/web", "--timeout=60s"],
            b"",
        );
        cluster.ok(Peer::WebSocket, &wait, b"");
        Some(cluster)
    }

    /// Every kubectl there is here; CI on Debian 12 must have the old one.
    pub fn peers() -> Vec<Peer> {
        let mut peers = vec![Peer::WebSocket, Peer::Spdy];
        if old_kubectl().exists() {
            peers.push(Peer::Old);
        } else if std::fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("bookworm")) {
            lacks("target/peers/kubectl-1.20 (scripts/setup.sh test)");
        } else {
            eprintln!("SKIPPED: kubectl 1.20 is unpacked on Debian 12 only");
        }
        peers
    }

    pub fn kubectl(&self, peer: Peer, args: &[&str]) -> Command {
        let old = old_kubectl();
        let program = if peer == Peer::Old {
            old.as_path()
        } else {
            Path::new("kubectl")
        };
        let mut command = Command::new(program);
        let websockets = if peer == Peer::WebSocket { "true" } else { "false" };
        command
            .args(args)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs kubectl to its end with this input.
    pub fn run(&self, peer: Peer, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .kubectl(peer, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // a program that does not read its input closes it
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    /// Standard output of what must succeed.
    #[track_caller]
    pub fn ok(&self, peer: Peer, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(peer, args, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{peer:?} {args:?}: {stderr}");
        output.stdout
    }

    /// The same as text, without the last line feed.
    #[track_caller]
    pub fn text(&self, peer: Peer, args: &[&str]) -> String {
        let text = String::from_utf8(self.ok(peer, args, b"")).unwrap();
        text.trim_end().to_owned()
    }

    /// Standard error of what must fail.
    #[track_caller]
    pub fn fails(&self, peer: Peer, args: &[&str]) -> String {
        let output = self.run(peer, args, b"");
        assert!(!output.status.success(), "{peer:?} {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
    }

    /// A number that stands in the command lines of this test only: as seconds for `sleep`, some years.
    pub fn mark(&self, number: usize) -> String {
        assert!(number < 100);
        format!("{}{number:02}", 100_000_000 + std::process::id())
    }

    /// Processes in the cluster whose command line holds `mark`, with it; clients outside do not count.
    pub fn running(&self, mark: &str) -> Vec<String> {
        let namespace = |path: &Path| std::fs::read_link(path.join("ns/pid")).ok();
        let own = namespace(Path::new("/proc/self"));
        let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        entries
            .filter_map(|path| {
                let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                // Programs of pods are in the cluster's namespaces.
                let theirs = line.contains(mark) && namespace(&path) != own;
                theirs.then(|| format!("{} {line}", path.display()))
            })
            .collect()
    }

    /// Waits until no such process is left.
    #[track_caller]
    pub fn until_gone(&self, mark: &str) {
        let begin = Instant::now();
        loop {
            let left = self.running(mark);
            if left.is_empty() {
                return;
            }
            assert!(begin.elapsed() < LONG, "not gone within {LONG:?}: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory of the cluster's node, bytes.
    pub fn memory(&self) -> u64 {
        let of = |pid: i32| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        self.home.processes().into_iter().filter_map(of).max().unwrap_or(0) * 1024
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.home.ztlab(&["cluster", "delete", "st"]);
    }
}

fn old_kubectl() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/kubectl-1.20")
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes without a pattern that a cut or a swap would not show in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A `kubectl port-forward` that has begun; it ends with the test.
pub struct Forward {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// The local ports, in the order of the arguments.
    pub ports: Vec<u16>,
}

impl Forward {
    #[track_caller]
    pub fn start(cluster: &Cluster, peer: Peer, what: &str, ports: &[String]) -> Self {
        let mut args = vec!["port-forward", "--address=127.0.0.1", what];
        args.extend(ports.iter().map(String::as_str));
        let mut child = cluster
            .kubectl(peer, &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut found = Vec::new();
        while found.len() < ports.len() {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let output = child.wait_with_output().unwrap();
                panic!("{peer:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            let local = line.strip_prefix("Forwarding from 127.0.0.1:");
            let local = local.and_then(|rest| rest.split(' ').next()?.parse().ok());
            found.push(local.unwrap_or_else(|| panic!("{line:?}")));
        }
        Self {
            child,
            _stdout: stdout,
            ports: found,
        }
    }

    /// Everything that a port sends until it closes; `request` is sent first.
    pub fn ask(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LONG))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Waits until it has told every one of these on its standard error, and ends it.
    #[track_caller]
    pub fn tells(mut self, parts: &[&str]) {
        let mut stderr = self.child.stderr.take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                let _ = tell.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
        });
        let mut text = String::new();
        while !parts.iter().all(|part| text.contains(part)) {
            let more = told.recv_timeout(LONG);
            text += &more.unwrap_or_else(|_| panic!("no {parts:?} in:\n{text}"));
        }
        drop(self);
        reading.join().unwrap();
    }

    /// Ends it, and gives its standard error.
    pub fn end(mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut text);
        text
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
