//! SPIRE's own commands set upon the stand-ins, beside ours: both print the same, where the machine has Go. Each of the two has a
//! world of its own, in which the same has happened.

use std::{collections::BTreeMap, path::Path};

use regex::{Captures, Regex};
use serde_json::Value;
use tokio::process::Command;

use super::{
    commands::printed,
    peers::{output, peer, text},
    world::{World, entry, settings},
};
use crate::api::types;

const TABLE: &str = include_str!("spire_commands.txt");

/// A line of the table.
struct Line<'a> {
    keeps: Option<(&'a str, Regex)>,
    /// `server` or `agent`.
    program: &'a str,
    args: Vec<&'a str>,
}

fn table() -> Vec<Line<'static>> {
    let keeping = Regex::new(r"^(?:([A-Z]+)=(.+) )?(server|agent) (.+)$").unwrap();
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            // The pattern may have spaces: what is to be run begins at the last name of a program.
            let parts = keeping.captures(line).unwrap_or_else(|| panic!("{line:?}"));
            let keeps = parts.get(1).map(|name| (name.as_str(), Regex::new(&parts[2]).unwrap()));
            Line {
                keeps,
                program: parts.get(3).unwrap().as_str(),
                args: parts.get(4).unwrap().as_str().split(' ').collect(),
            }
        })
        .collect()
}

/// What a command printed, and whether it failed.
#[derive(Debug, PartialEq)]
struct Printed {
    out: String,
    err: String,
    failed: bool,
}

/// One of the two, with what it has kept of earlier outputs.
struct Side<'a> {
    world: World,
    theirs: Option<&'a Path>,
    kept: BTreeMap<&'a str, String>,
}

impl<'a> Side<'a> {
    async fn start(theirs: Option<&'a Path>) -> Self {
        let world = World::now(settings(86_400, 3600)).await;
        tokio::spawn(world.agent().await);
        // An agent gives SVIDs in the order of the entries' ids.
        let first = types::Entry {
            id: "first".into(),
            ..entry("/first")
        };
        world.entry_of(first).await;
        let second = types::Entry {
            id: "second".into(),
            hint: "internal".into(),
            dns_names: vec!["second.shop".into()],
            ..entry("/second")
        };
        world.entry_of(second).await;
        while world.svids().await.0.svids.len() < 2 {
            tokio::task::yield_now().await;
        }
        Self {
            world,
            theirs,
            kept: BTreeMap::new(),
        }
    }

    async fn run(&mut self, line: &Line<'a>) -> Printed {
        let socket = match line.program {
            "server" => self.world.admin(),
            _ => self.world.socket(),
        };
        let socket = socket.display().to_string();
        let kept = |arg: &str| {
            arg.strip_prefix('@')
                .map_or(arg.to_owned(), |name| self.kept[name].clone())
        };
        let mut args: Vec<String> = line.args.iter().map(|arg| kept(arg)).collect();
        args.extend(["-socketPath".to_owned(), socket]);
        let (out, err, failed) = match self.theirs {
            Some(program) => {
                let mut command = Command::new(program);
                let ended = output(command.arg(format!("spire-{}", line.program)).args(&args)).await;
                (text(&ended.stdout), text(&ended.stderr), !ended.status.success())
            }
            None => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                printed(line.program, &args).await
            }
        };
        if let Some((name, pattern)) = &line.keeps {
            let found = pattern.captures(&out).unwrap_or_else(|| panic!("no {name} in {out:?}"));
            self.kept.insert(name, found[1].to_owned());
        }
        Printed {
            out: told(&out),
            err: told(&err),
            failed,
        }
    }
}

/// Without what differs from one world, moment or version of SPIRE to another: ids, keys, times, the width of columns, and the
/// order of a JSON object.
fn told(text: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        strip(&mut value);
        return value.to_string();
    }
    let mut text = text.to_owned();
    for (pattern, instead) in [
        (r"(?m)^Error: ", ""),
        (r"(?m)^Agent version +: .*\n", ""),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
        (r"Authority ID: \S{32,}", "Authority ID: ID"),
        (r"Serial number +: \d+", "Serial number: NUMBER"),
        (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d( \+0000 UTC|Z)", "TIME"),
        (r" after [0-9.]+(µs|ms|s)", " after SOME TIME"),
        (r"(-----BEGIN [A-Z ]+-----)[^-]+", "$1 "),
        (r" +: ", ": "),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, instead).into_owned();
    }
    let bundle = Regex::new(r"(?s)(bundle\([^)]+\):\n\t)(\{.*\})").unwrap();
    bundle
        .replace_all(&text, |found: &Captures<'_>| {
            format!("{}{}", &found[1], told(&found[2]))
        })
        .into_owned()
}

/// Takes out of JSON what is a secret, a key, an id or a time; the names of the fields stay.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("agent_version");
            fields.iter_mut().for_each(|(name, value)| {
                let varies = matches!(
                    name.as_str(),
                    "created_at" | "issued_at" | "exp" | "iat" | "expires_at" | "x509svid_expires_at"
                );
                if varies && !matches!(value.as_str(), Some("0")) {
                    *value = Value::Null;
                }
                strip(value);
            })
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::String(text) if text.len() >= 32 && !text.starts_with("spiffe://") => *value = Value::Null,
        _ => {}
    }
}

#[tokio::test]
async fn spires_commands_print_of_the_stand_ins_what_ours_print() {
    let Some(program) = peer("spiffe-peers", "go") else {
        return;
    };
    let (mut theirs, mut ours) = (Side::start(Some(&program)).await, Side::start(None).await);
    let mut differ = Vec::new();
    for line in table() {
        let (theirs, ours) = (theirs.run(&line).await, ours.run(&line).await);
        if theirs != ours {
            differ.push(format!("{} {:?}\n{theirs:#?}\n{ours:#?}", line.program, line.args));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[tokio::test]
async fn spires_watch_follows_a_rotation() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let Some(program) = peer("spiffe-peers", "go") else {
        return;
    };
    let world = World::now(settings(86_400, 3600)).await;
    tokio::spawn(world.agent().await);
    let id = world.entry("/orders").await;
    world.svids().await;
    let socket = world.socket().display().to_string();
    let mut watching = Command::new(program)
        .args(["spire-agent", "api", "watch", "-socketPath", &socket])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = async || {
        let read = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.starts_with("Received 1 svid after ") {
                    return;
                }
            }
            panic!("spire-agent api watch ended");
        };
        let read = tokio::time::timeout(super::peers::PATIENCE, read).await;
        read.expect("spire-agent api watch tells nothing");
    };
    next().await;
    world.changed(&id, "orders.shop").await;
    next().await;
}
