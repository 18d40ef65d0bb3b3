//! The table of kubectl command lines (`compat/table.txt`), run as it stands with the newest and the oldest kubectl of this machine
//! and with that of Debian 12, each against an embedded cluster of its own.
//!
//! `ZTLAB_COMPAT_KUBECTL=all` runs every version, `ZTLAB_COMPAT_KUBECTL=1.33,1.20` those alone; `ZTLAB_COMPAT_SHOW=1` prints every
//! line as it is run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "compat/compare.rs"]
mod compare;
#[path = "compat/kubectl.rs"]
mod kubectl;
#[path = "compat/run.rs"]
mod run;
#[path = "compat/table.rs"]
mod table;
#[path = "compat/terminal.rs"]
mod terminal;

use std::{fmt::Write, path::Path};

use run::Outcome;

const TABLE: &str = include_str!("compat/table.txt");

#[test]
fn every_line_of_the_table_holds_with_every_kubectl() {
    if !common::embedded_works() {
        return;
    }
    let table = table::parse(TABLE).unwrap();
    let kubectls = kubectl::find();
    if kubectls.is_empty() {
        common::lacks("kubectl");
        return;
    }
    if is_debian_12() && std::env::var_os("ZTLAB_COMPAT_KUBECTL").is_none() {
        // `scripts/setup.sh test` places it there.
        let old = kubectls.iter().any(|kubectl| kubectl.version == kubectl::OLD);
        let _ = old || common::lacks("kubectl 1.20");
    }
    let mut failures = String::new();
    for kubectl in &kubectls {
        let Some(mut bench) = run::Bench::start(kubectl) else {
            return;
        };
        let mut counts = [0; 3];
        for entry in &table {
            for (command, outcome) in bench.run(entry) {
                let place = format!(
                    "kubectl {}, {} {}\n  $ {command}",
                    kubectl.version, entry.number, entry.title
                );
                match outcome {
                    Outcome::Holds => counts[0] += 1,
                    Outcome::NotHere => counts[1] += 1,
                    Outcome::Waits { on, why } => {
                        counts[2] += 1;
                        eprintln!(
                            "WAITS for {on}: {place}\n{}",
                            why.as_deref().unwrap_or("it holds by now")
                        );
                    }
                    Outcome::Fails(why) => writeln!(failures, "{place}\n{why}").unwrap(),
                }
            }
        }
        let [held, elsewhere, waiting] = counts;
        eprintln!(
            "kubectl {}: {held} command lines hold, {elsewhere} are of other versions, {waiting} wait",
            kubectl.version
        );
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn is_debian_12() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.contains("\nID=debian\n") && release.contains("\nVERSION_ID=\"12\"\n")
}

/// Every command line that this project promises is in the table, once and in order.
#[test]
fn the_table_is_complete() {
    let table = table::parse(TABLE).unwrap();
    let numbers: Vec<u32> = table.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=65).collect::<Vec<_>>());
    for entry in &table {
        let file = entry
            .by
            .as_ref()
            .map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let held = !entry.commands.is_empty() || file.is_some_and(|file| file.is_file());
        assert!(held, "{} {} is held by nothing", entry.number, entry.title);
    }
}
