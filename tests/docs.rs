//! The documents tell the truth about the program: every chapter exists, every command they show is one.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn chapters() -> Vec<PathBuf> {
    let summary = fs::read_to_string(root().join("book/src/SUMMARY.md")).unwrap();
    summary
        .match_indices("](")
        .map(|(at, _)| summary[at + 2..].split(')').next().unwrap())
        .map(|file| root().join("book/src").join(file))
        .collect()
}

fn markdown_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "md") {
            into.push(path);
        }
    }
}

#[test]
fn the_summary_names_every_chapter_and_no_other() {
    let named = chapters();
    assert!(named.len() > 5, "the summary was not read");
    for file in &named {
        assert!(
            file.is_file(),
            "the summary names {}, which is not there",
            file.display()
        );
    }
    let mut there = Vec::new();
    markdown_files(&root().join("book/src"), &mut there);
    there.retain(|file| !file.ends_with("SUMMARY.md") && !named.contains(file));
    assert!(there.is_empty(), "chapters that the summary does not name: {there:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut files = chapters();
    files.push(root().join("README.md"));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.starts_with("http") || target.starts_with('#') {
                continue;
            }
            let path = file.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(
                path.exists(),
                "{} links to {target}, which is not there",
                file.display()
            );
        }
    }
}

/// `ztlab …` lines of code blocks in the documents, as (file, words).
fn commands() -> Vec<(PathBuf, Vec<String>)> {
    let mut files = chapters();
    files.push(root().join("README.md"));
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut inside = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if inside && let Some(rest) = line.trim().trim_start_matches("$ ").strip_prefix("ztlab ") {
                let rest = rest.split(" #").next().unwrap().split("   ").next().unwrap();
                found.push((file.clone(), rest.split_whitespace().map(str::to_owned).collect()));
            }
        }
    }
    found
}

/// `ztlab …` between backticks or quotes in what the program itself says (hints, errors, help), as (file, words).
/// Comments and tests say it to nobody.
fn said() -> Vec<(PathBuf, Vec<String>)> {
    let mut files = Vec::new();
    source_files(&root().join("src"), &mut files);
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("\n#[cfg(test)]").next().unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("`ztlab ") {
                let rest = &line[at + "`ztlab ".len()..];
                let Some(end) = rest.find('`') else { continue };
                let words = rest[..end].split_whitespace().map(str::to_owned).collect();
                found.push((file.clone(), words));
            }
        }
    }
    found
}

fn source_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_ztlab_command_shown_is_a_command() {
    let (shown, said) = (commands(), said());
    assert!(shown.len() > 10, "the documents' commands were not read");
    assert!(said.len() > 10, "the program's own hints were not read");
    for (file, words) in shown.into_iter().chain(said) {
        let verbs: Vec<&str> = words
            .iter()
            .map(String::as_str)
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-'))
            .take(2)
            .collect();
        let help = |verbs: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_ztlab"))
                .args(verbs)
                .arg("--help")
                .output()
                .unwrap()
        };
        let output = help(&verbs);
        let output = if output.status.success() {
            output
        } else {
            help(&verbs[..1])
        };
        assert!(
            output.status.success(),
            "{}: `ztlab {}` is no command",
            file.display(),
            words.join(" ")
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // What follows the flags of `ztlab kubectl` is kubectl's own.
        let words: Vec<String> = match words[0].as_str() {
            "kubectl" => words
                .iter()
                .skip(1)
                .take_while(|word| word.starts_with("--"))
                .cloned()
                .collect(),
            _ => words,
        };
        for flag in words
            .iter()
            .filter(|word| word.starts_with('-') && word.as_str() != "--")
        {
            let flag = flag.split('=').next().unwrap();
            assert!(
                text.contains(flag),
                "{}: `ztlab {}` has no {flag}",
                file.display(),
                words.join(" ")
            );
        }
    }
}

/// The rows of the table under a heading, cell by cell.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let part = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_default();
    let part = part.split("\n## ").next().unwrap_or_default();
    part.lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_table_of_kinds_is_what_the_api_server_serves() {
    let text = fs::read_to_string(root().join("book/src/carrying-on/support.md")).unwrap();
    let shown: std::collections::BTreeSet<(String, String)> = table(&text, "Kinds")
        .into_iter()
        .filter(|row| !row[0].starts_with('*'))
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let served = ztlab::embedded::control_plane::api::registry::Registry::builtin()
        .iter()
        .map(|kind| (kind.kind.clone(), kind.api_version()))
        .collect();
    assert_eq!(shown, served, "the book and the API server differ");
}

#[test]
fn every_test_that_the_support_table_names_is_there() {
    let text = fs::read_to_string(root().join("book/src/carrying-on/support.md")).unwrap();
    let rows = table(&text, "What is held by which test");
    assert!(rows.len() > 5, "the table was not read");
    for row in rows {
        assert!(!row[1].is_empty(), "nothing holds {:?}", row[0]);
        for name in row[1].split(',') {
            let name = name.trim().trim_matches('`');
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let path = root().join(file);
            let code =
                fs::read_to_string(&path).unwrap_or_else(|_| panic!("{:?} names {file}, which is not there", row[0]));
            let there = test.is_empty() || code.contains(&format!("fn {test}("));
            assert!(there, "{:?} names {name}, which is no test", row[0]);
        }
    }
}

#[test]
fn the_stand_ins_in_the_book_are_those_in_the_program() {
    let text = fs::read_to_string(root().join("book/src/students/images.md")).unwrap();
    let shown: Vec<&str> = text
        .lines()
        // The first table of the page; the others are of settings.
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with('|'))
        .filter(|line| line.contains('`'))
        .collect();
    let real: Vec<String> = ztlab::standins::ALL
        .iter()
        .map(|image| {
            let names: Vec<String> = image.repositories.iter().map(|name| format!("`{name}`")).collect();
            format!("| {} | {} | {} |", image.name, names.join(", "), image.summary)
        })
        .collect();
    assert_eq!(shown, real);
}
