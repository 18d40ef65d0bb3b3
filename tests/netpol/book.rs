//! The students' page about policies, run from top to bottom: each command says what the page says.
//!
//! Blocks of YAML are files, called what their first line says; lines of `console` blocks that begin with `$ ` are commands, and what
//! follows is what they print. With `ZTLAB_BLESS=1` what they print is written into the page.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    lab::{LIMIT, Lab},
    nft,
};

fn page() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "book/src/students/network-policies.md"]
        .iter()
        .collect()
}

/// A part of the page.
enum Part {
    /// As it is.
    Text(String),
    /// A file's name and text.
    File(String, String),
    /// Commands and what they print.
    Console(Vec<(String, String)>),
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        match line.trim_end() {
            "```yaml" => {
                let body: String = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
                let name = body.lines().next().unwrap().trim_start_matches("# ").to_owned();
                parts.push(Part::File(name, body));
            }
            "```console" => {
                let mut commands: Vec<(String, String)> = Vec::new();
                for line in lines.by_ref().take_while(|line| line.trim_end() != "```") {
                    match line.strip_prefix("$ ") {
                        Some(command) => commands.push((command.trim_end().to_owned(), String::new())),
                        None => commands.last_mut().unwrap().1.push_str(line),
                    }
                }
                parts.push(Part::Console(commands));
            }
            _ => parts.push(Part::Text(line.to_owned())),
        }
    }
    parts
}

/// Runs a command as a student would; gives what it prints. What only looks is done until it shows what is expected: policies
/// hold a moment after they were written.
fn run(lab: &Lab, command: &str, expected: &str) -> String {
    let looks = command.contains("agnhost connect") || command.contains("nft list");
    let end = Instant::now() + if bless() { Duration::from_secs(2) } else { LIMIT };
    loop {
        let output = lab.shell(command);
        let mut printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if command.contains("nft list") {
            assert!(output.status.success(), "{printed}");
            printed = nft::in_order(&printed);
        }
        if !looks || printed == expected || Instant::now() > end {
            return printed;
        }
    }
}

fn bless() -> bool {
    std::env::var_os("ZTLAB_BLESS").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_policies_says_what_the_cluster_says() {
    if !nft::there() {
        return;
    }
    if Command::new("kubectl").arg("help").output().is_err() {
        assert!(std::env::var("CI").is_err(), "CI must have kubectl");
        eprintln!("SKIPPED: no kubectl on this machine");
        return;
    }
    let Some(lab) = Lab::empty(None).await else { return };
    let expected = fs::read_to_string(page()).unwrap();
    let mut said = String::new();
    let mut commands = 0;
    for part in parts(&expected) {
        match part {
            Part::Text(text) => said += &text,
            Part::File(name, text) => {
                fs::write(lab.directory().join(name), &text).unwrap();
                said += &format!("```yaml\n{text}```\n");
            }
            Part::Console(block) => {
                said += "```console\n";
                for (command, expected) in block {
                    commands += 1;
                    let printed = tokio::task::block_in_place(|| run(&lab, &command, &expected));
                    said += &format!("$ {command}\n{printed}");
                }
                said += "```\n";
            }
        }
    }
    assert!(commands > 20, "the page was not read");
    if bless() {
        fs::write(page(), &said).unwrap();
    }
    let differing = expected
        .lines()
        .zip(said.lines())
        .find(|(page, cluster)| page != cluster);
    assert_eq!(expected, said, "first difference: {differing:?}");
}
