//! What the tests of the whole program share: a home of their own, and who may run them.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A user without any entry in the password file: what the rootless tests run as when CI is root.
const ORDINARY: u32 = 61_473;

/// State, runtime directory and home of one test; everything in it is stopped and removed by drop.
pub struct Home {
    dir: PathBuf,
    binary: PathBuf,
    user: Option<u32>,
}

impl Home {
    /// A home for the user that runs the tests.
    pub fn new(name: &str) -> Self {
        Self::make(name, None)
    }

    /// A home for `user`; the tests must run as root.
    pub fn for_user(name: &str, user: u32) -> Self {
        Self::make(name, Some(user))
    }

    fn make(name: &str, user: Option<u32>) -> Self {
        let dir = Path::new("/tmp").join(format!("ztlab-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("run")).unwrap();
        // A checkout under root's home is closed to others: the program is run from a copy.
        let binary = dir.join("ztlab");
        // By a process of its own: a copy made here would be open for writing while another test's thread forks, and the
        // kernel refuses to execute a file that anybody has open for writing.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_ztlab"))
            .arg(&binary)
            .status()
            .unwrap();
        assert!(
            copied.success(),
            "the program could not be copied to {}",
            binary.display()
        );
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        if let Some(user) = user {
            chown(&dir, Some(user), Some(user)).unwrap();
            chown(dir.join("run"), Some(user), Some(user)).unwrap();
        }
        Self { dir, binary, user }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// `program`, in this home and as its user.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("HOME", &self.dir)
            .env("XDG_STATE_HOME", self.dir.join("state"))
            .env("XDG_RUNTIME_DIR", self.dir.join("run"))
            .env("NO_COLOR", "1")
            .env_remove("KUBECONFIG")
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// The program under test with these arguments, run to its end.
    pub fn ztlab(&self, args: &[&str]) -> Output {
        self.command(&self.binary).args(args).output().unwrap()
    }

    /// Where the program under test is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Processes that run this home's copy of the program.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let here = fs::read(entry.path().join("environ")).is_ok_and(|environ| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|one| one == format!("HOME={}", self.dir.display()).as_bytes())
            });
            if here {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.ztlab(&["lab", "stop", "--delete"]);
        for pid in self.processes() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether this machine can run the embedded cluster; says loudly when not, and fails in CI.
pub fn embedded_works() -> bool {
    let works = Command::new("unshare")
        .args(["-Urn", "true"])
        .status()
        .is_ok_and(|status| status.success());
    works || lacks("user namespaces")
}

/// Skips loudly (`false`), or fails when `CI=true`.
pub fn lacks(what: &str) -> bool {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must have {what}");
    eprintln!("SKIPPED: this machine lacks {what}");
    false
}

/// The user id to run an ordinary user's half as; `None` when the tests are already run by one.
pub fn ordinary_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(ORDINARY)
}
