//! Runs the table's commands.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

use ztlab::embedded::control_plane::apiserver::REFUSED;

use crate::{
    common::{Home, ordinary_user},
    compare::{Shown, judge},
    kubectl::Kubectl,
    table::{Command, Entry},
    terminal,
};

/// Seconds after which a command is taken for stuck.
const LIMIT: &str = "90";

/// What every command finds defined.
const PRELUDE: &str = "
eventually() { n=0; until eval \"$1\" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || { echo \"never: $1\" >&2; return 1; }; sleep 0.2; done; }
";

/// What became of a command line.
pub enum Outcome {
    Holds,
    /// It is of other versions.
    NotHere,
    /// It waits for a part that is not there yet; what is wrong by now, if anything.
    Waits {
        on: String,
        why: Option<String>,
    },
    Fails(String),
}

/// A cluster with a kubectl and a working directory.
pub struct Bench<'a> {
    home: Home,
    kubectl: &'a Kubectl,
    bin: PathBuf,
}

impl<'a> Bench<'a> {
    pub fn start(kubectl: &'a Kubectl) -> Option<Self> {
        let name = format!("compat-{}", kubectl.version);
        let home = match ordinary_user() {
            Some(user) => Home::for_user(&name, user),
            None => Home::new(&name),
        };
        let made = home.ztlab(&["cluster", "create", "compat"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(&kubectl.path, bin.join("kubectl")).unwrap();
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/files");
        let copied = Process::new("cp")
            .arg("-r")
            .arg(files)
            .arg(home.path().join("work"))
            .status();
        assert!(copied.unwrap().success());
        Some(Self { home, kubectl, bin })
    }

    /// Runs an entry's commands in order.
    pub fn run(&mut self, entry: &Entry) -> Vec<(String, Outcome)> {
        let outcomes = entry.commands.iter().map(|command| {
            let outcome = self.outcome(entry, command);
            (command.text.replace('\n', "\n    "), outcome)
        });
        outcomes.collect()
    }

    fn outcome(&self, entry: &Entry, command: &Command) -> Outcome {
        let version = self.kubectl.version;
        if !entry.when.includes(version) || !command.when.includes(version) {
            return Outcome::NotHere;
        }
        if std::env::var_os("ZTLAB_COMPAT_SHOW").is_some() {
            eprintln!("[{version}] {} $ {}", entry.number, command.text);
        }
        let shown = match command.terminal {
            Some(size) => terminal::run(&self.process(&command.text, true), size, &command.steps),
            None => Ok(self.shown(&command.text)),
        };
        let why = match shown {
            Ok(shown) => {
                let wrong = judge(command, &shown);
                let all = || {
                    format!(
                        "{}\n--- stdout\n{}--- stderr\n{}",
                        wrong.join("\n"),
                        shown.stdout,
                        shown.stderr
                    )
                };
                (!wrong.is_empty()).then(all)
            }
            Err(why) => Some(why),
        };
        match (command.when.waits.as_ref().or(entry.when.waits.as_ref()), why) {
            (Some(on), why) => Outcome::Waits { on: on.clone(), why },
            (None, None) => Outcome::Holds,
            (None, Some(why)) => Outcome::Fails(why),
        }
    }

    fn process(&self, script: &str, foreground: bool) -> Process {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut process = Process::new("timeout");
        process
            .args(foreground.then_some("--foreground"))
            .args(["-k", "2", LIMIT, "bash", "-c", &format!("{PRELUDE}{script}")])
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("HOME", self.home.path())
            .env(
                "KUBECONFIG",
                self.home.path().join("state/ztlab/clusters/compat/kubeconfig"),
            )
            .env("KUBECTL_SHOW_KIND", "")
            // What `kubectl edit` refuses it keeps there.
            .env("TMPDIR", self.home.path().join("work"))
            .current_dir(self.home.path().join("work"))
            .stdin(Stdio::null());
        process
    }

    fn shown(&self, script: &str) -> Shown {
        // Into files: a client left behind in the background must not keep the test waiting for the end of a pipe.
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.home.path().join(name));
        let mut process = self.process(script, false);
        process.stdout(fs::File::create(&stdout).unwrap());
        process.stderr(fs::File::create(&stderr).unwrap());
        let status = process.status().unwrap();
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Shown {
            // timeout(1) says 124 of what did not end
            code: status.code().filter(|code| *code != 124),
            stdout: read(stdout),
            stderr: read(stderr),
        }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let log = self.home.path().join("state/ztlab/clusters/compat/node.log");
        let log = fs::read_to_string(log).unwrap_or_default();
        let refusals: Vec<&str> = log.lines().filter(|line| line.contains(REFUSED)).collect();
        if !std::thread::panicking() {
            assert!(refusals.is_empty(), "{}", refusals.join("\n"));
        }
        self.home.ztlab(&["cluster", "delete", "compat"]);
    }
}
