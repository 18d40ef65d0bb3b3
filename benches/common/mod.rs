//! What the benchmarks share: a home of their own, medians, tables, and the memory of a program's processes.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub struct Bench {
    pub ztlab: PathBuf,
    pub home: PathBuf,
}

pub struct Row {
    pub what: String,
    pub measured: String,
    pub spread: String,
    pub aim: &'static str,
}

impl Bench {
    pub fn new(name: &str) -> Self {
        let home = env::temp_dir().join(format!("ztlab-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        Self {
            ztlab: PathBuf::from(env!("CARGO_BIN_EXE_ztlab")),
            home,
        }
    }

    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("HOME", &self.home)
            .stdin(Stdio::null());
        command
    }

    pub fn ztlab(&self, args: &[&str]) -> Output {
        let output = self.command(&self.ztlab).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "ztlab {args:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Where the kubeconfig of a cluster is.
    pub fn kubeconfig(&self, cluster: &str) -> String {
        String::from_utf8(self.ztlab(&["cluster", "kubeconfig", cluster]).stdout)
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.command(&self.ztlab).args(["lab", "stop", "--delete"]).output();
        // Those of a benchmark that broke off.
        for cluster in fs::read_dir(self.home.join("state/ztlab/clusters"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = cluster.file_name();
            let _ = self.command(&self.ztlab).args(["cluster", "delete"]).arg(name).output();
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

pub fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// After so long without work, a node and a session host have given back what they do not use.
pub const REST: Duration = Duration::from_secs(6);

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn row(what: impl Into<String>, mut ms: Vec<f64>, aim: &'static str) -> Row {
    let middle = median(&mut ms);
    Row {
        what: what.into(),
        measured: format!("{middle:.1} ms"),
        spread: format!("{:.1} to {:.1}", ms.first().unwrap(), ms.last().unwrap()),
        aim,
    }
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Sum of the proportional set sizes of every process that runs this binary, in MiB, with their number; with `only`, of
/// that process alone.
pub fn memory(binary: &Path, only: Option<u32>) -> (f64, usize) {
    let binary = fs::canonicalize(binary).unwrap();
    let mut kib = 0u64;
    let mut processes = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if only.is_some_and(|pid| entry.file_name().to_str() != Some(&pid.to_string())) {
            continue;
        }
        let exe = fs::read_link(entry.path().join("exe"));
        // A pod sees the binary at a path of its own: the file's name is what both have in common.
        if !exe.is_ok_and(|exe| exe == binary || exe.ends_with(".ztlab/ztlab")) {
            continue;
        }
        let Ok(rollup) = fs::read_to_string(entry.path().join("smaps_rollup")) else {
            continue;
        };
        let pss = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
        kib += pss;
        processes += 1;
    }
    #[allow(clippy::cast_precision_loss)]
    (kib as f64 / 1024.0, processes)
}

/// The table, as Markdown.
pub fn print(rows: &[Row]) {
    println!("\n| what | median | spread | aim |\n|---|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} | {} |", row.what, row.measured, row.spread, row.aim);
    }
}
