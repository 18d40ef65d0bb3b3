//! A cluster of a test's own, driven by the real `kubectl`.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    cell::Cell,
    fs,
    io::Write,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use ztlab::embedded::control_plane::apiserver::REFUSED;

/// A user that no machine has, so that nothing is owned by it.
pub const ORDINARY: u32 = 61_771;
/// Longer than anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Lab {
    home: tempfile::TempDir,
    program: PathBuf,
    uid: Option<u32>,
    /// Whether the test takes rights from the cluster's own components.
    refuses: Cell<bool>,
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `test` in a cluster of whoever runs the tests, and where that is root, in one of an ordinary user.
pub fn everywhere(test: impl Fn(&Lab)) {
    if let Some(lab) = Lab::create(None) {
        test(&lab);
    }
    if rustix::process::geteuid().is_root()
        && let Some(lab) = Lab::create(Some(ORDINARY))
    {
        test(&lab);
    }
}

/// A pod of one container.
pub fn pod(name: &str, container: Value, rest: Value) -> Value {
    let mut all = serde_json::json!({"name": "c", "image": "ztlab.dev/toolbox:1", "command": ["sleep", "1000"]});
    merge(&mut all, container);
    let mut spec = serde_json::json!({"terminationGracePeriodSeconds": 0, "containers": [all]});
    merge(&mut spec, rest);
    serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { panic!("an object") };
    into.as_object_mut().unwrap().extend(from);
}

impl Lab {
    /// A cluster, or `None` where this machine lacks what it takes; in CI that is a failure.
    pub fn create(uid: Option<u32>) -> Option<Self> {
        if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
            return skip("there is no kubectl");
        }
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let state = home.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_ztlab"));
        if let Some(uid) = uid {
            chown(&state, Some(uid), Some(uid)).unwrap();
            // The build's directory may be closed to others. Copied by a process of its own: one that this process has open for
            // writing while another test forks cannot be executed.
            let copy = home.path().join("ztlab");
            assert!(Command::new("cp").args([&program, &copy]).status().unwrap().success());
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
            program = copy;
        }
        let refuses = Cell::new(false);
        let lab = Self {
            home,
            program,
            uid,
            refuses,
        };
        let made = lab.ztlab(&["cluster", "create", "t"]);
        if made.status.success() {
            return Some(lab);
        }
        let said = text(&made.stderr);
        if said.contains("refused") || said.contains("namespace") {
            return skip(&said);
        }
        panic!("{said}\n{}", lab.log());
    }

    pub fn dir(&self) -> PathBuf {
        self.home.path().join("state/ztlab/clusters/t")
    }

    pub fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    pub fn node_pid(&self) -> u32 {
        let lock: Value = serde_json::from_slice(&fs::read(self.dir().join("lock")).unwrap()).unwrap();
        u32::try_from(lock["node"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// Whether the cluster has groups besides its user's own: root does, others where the machine gives them a range.
    pub fn has_groups(&self) -> bool {
        let map = fs::read_to_string(format!("/proc/{}/gid_map", self.node_pid())).unwrap();
        map.lines().count() > 1
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("node.log")).unwrap_or_default()
    }

    /// What components asked for and may not, as the log has it.
    pub fn refusals(&self) -> Vec<String> {
        let log = self.log();
        let refusals = log.lines().filter(|line| line.contains(REFUSED));
        refusals.map(str::to_owned).collect()
    }

    /// Says that this test takes rights from components, which is a failure of any other.
    pub fn expect_refusals(&self) {
        self.refuses.set(true);
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.home.path().join("state"))
            .env("HOME", self.home.path().join("state"))
            .env("KUBECONFIG", self.dir().join("kubeconfig"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// The program, to be run by [`command`](Self::command).
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    pub fn ztlab(&self, args: &[&str]) -> Output {
        self.command(&self.program).args(args).output().unwrap()
    }

    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.command("kubectl").args(args).output().unwrap()
    }

    /// Runs kubectl, which must succeed; gives its output.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        let ok = output.status.success();
        assert!(ok, "kubectl {args:?}: {}\n{}", text(&output.stderr), self.log());
        text(&output.stdout)
    }

    /// Applies objects, which must be taken.
    #[track_caller]
    pub fn apply(&self, objects: &[Value]) {
        let output = self.try_apply(objects);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    pub fn try_apply(&self, objects: &[Value]) -> Output {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.give(&list.to_string())
    }

    /// Applies a manifest in JSON or YAML, which must be taken.
    #[track_caller]
    pub fn apply_text(&self, manifest: &str) {
        let output = self.give(manifest);
        assert!(output.status.success(), "{manifest}\n{}", text(&output.stderr));
    }

    fn give(&self, manifest: &str) -> Output {
        let mut child = self
            .command("kubectl")
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    pub fn get(&self, what: &[&str]) -> Value {
        let mut args = vec!["get", "-o", "json"];
        args.extend_from_slice(what);
        serde_json::from_str(&self.kubectl(&args)).unwrap()
    }

    /// Waits until the pod's containers are ready.
    #[track_caller]
    pub fn ready(&self, pod: &str) {
        let output = self.try_kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
        let shown = || self.kubectl(&["describe", "pod", pod]);
        assert!(output.status.success(), "{}\n{}", text(&output.stderr), shown());
    }

    /// What a shell in a pod answers; it must end well.
    #[track_caller]
    pub fn sh(&self, pod: &str, script: &str) -> String {
        let output = self.try_sh(pod, script);
        let said = text(&output.stderr);
        assert!(
            output.status.success(),
            "{pod}: {script}: {said}\n{}",
            text(&output.stdout)
        );
        text(&output.stdout)
    }

    pub fn try_sh(&self, pod: &str, script: &str) -> Output {
        self.try_kubectl(&["exec", pod, "--", "sh", "-c", script])
    }

    /// Waits until `test` holds; a wait that has no end is a failure.
    #[track_caller]
    pub fn until(&self, what: &str, test: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !test() {
            assert!(
                Instant::now() < end,
                "{what}\n{}",
                self.kubectl(&["get", "pods,events", "-A"])
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for an event about a pod that holds this text.
    #[track_caller]
    pub fn event(&self, pod: &str, part: &str) {
        let about = format!("involvedObject.name={pod}");
        self.until(&format!("no event about {pod} with {part:?}"), || {
            let events = self.get(&["events", "--field-selector", &about]);
            let events = events["items"].as_array().unwrap().clone();
            events.iter().any(|event| {
                let said = format!(
                    "{}: {}",
                    event["reason"].as_str().unwrap(),
                    event["message"].as_str().unwrap()
                );
                said.contains(part)
            })
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let refusals = self.refusals();
        self.ztlab(&["cluster", "delete", "t"]);
        if !self.refuses.get() && !std::thread::panicking() {
            assert!(refusals.is_empty(), "{}", refusals.join("\n"));
        }
    }
}

fn skip(why: &str) -> Option<Lab> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}
