//! What `nft` shows of the node's tables, so that two runs show the same.
#![allow(dead_code, clippy::unwrap_used)]

use std::process::Command;

/// Where Debian and others have it: an ordinary user's PATH may lack the directory.
const NFT: &str = "/usr/sbin/nft";

/// Whether this machine has nft; in CI it must.
pub fn there() -> bool {
    if Command::new(NFT).arg("--version").output().is_ok() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have nft");
    eprintln!("SKIPPED: there is no nft");
    false
}

/// The arguments of `nsenter` that list a table in the network namespace of a node.
pub fn list(node: u64, table: &str) -> Vec<String> {
    let pid = node.to_string();
    [
        "-t",
        &pid,
        "-U",
        "-n",
        "--preserve-credentials",
        NFT,
        "list",
        "table",
        "ip",
        table,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The kernel keeps elements by a hash that differs from run to run, and chains as they were made: in order of their names
/// here, an element a line. Newer nft counts the elements of a set.
pub fn in_order(table: &str) -> String {
    let lines = table
        .lines()
        .map(|line| line.split("\t# count").next().unwrap_or_default());
    let table = lines.collect::<Vec<_>>().join("\n");
    let table = table.trim_end().trim_end_matches('}');
    let (head, blocks) = table.split_once('\n').unwrap();
    let mut blocks: Vec<String> = blocks.split("\n\n").map(block_in_order).collect();
    blocks.sort();
    format!("{head}\n{}\n}}\n", blocks.join("\n\n"))
}

fn block_in_order(block: &str) -> String {
    let Some((head, rest)) = block.split_once("elements = {") else {
        return block.trim_end().to_owned();
    };
    let (elements, tail) = rest.split_once('}').unwrap();
    let mut elements: Vec<&str> = elements.split(',').map(str::trim).collect();
    elements.sort_unstable();
    let elements: String = elements.iter().map(|element| format!("\t\t\t{element}\n")).collect();
    format!("{head}elements = {{\n{elements}\t\t}}{}", tail.trim_end())
}
