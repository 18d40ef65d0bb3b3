//! The programs that a lab wants on the student's own machine: looked for before it starts.

use std::{ffi::OsStr, os::unix::fs::PermissionsExt};

use super::{command::Refusal, driver::refuse};
use crate::lab::Lab;

/// How to get programs that labs ask for: the package where it is called otherwise.
const PACKAGES: &[(&str, &str)] = &[
    ("dig", "dnsutils (Debian), bind-utils (Fedora), bind (macOS)"),
    ("host", "dnsutils (Debian), bind-utils (Fedora), bind (macOS)"),
    ("nc", "netcat-openbsd (Debian), nmap-ncat (Fedora)"),
    ("psql", "postgresql-client (Debian), postgresql (Fedora), libpq (macOS)"),
    ("tshark", "tshark (Debian), wireshark-cli (Fedora), wireshark (macOS)"),
    ("tcpdump", "tcpdump"),
];

/// Refuses a lab whose programs are not there, naming each and how to get it.
pub fn there(lab: &Lab) -> Result<(), Refusal> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match missing(&lab.host_tools, &path).as_slice() {
        [] => Ok(()),
        missing => Err(refuse(
            format!("the lab `{}` needs {}, not found in PATH", lab.id, list(missing)),
            format!(
                "install {} with your system's package manager, as `apt install`, `dnf install` or `brew install`",
                missing.iter().map(|tool| package(tool)).collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn package(tool: &str) -> String {
    match PACKAGES.iter().find(|(name, _)| *name == tool) {
        Some((_, package)) if *package != tool => format!("`{tool}` from {package}"),
        _ => format!("`{tool}`"),
    }
}

/// Those of `tools` that no directory of `path` has as a program.
fn missing<'a>(tools: &'a [String], path: &OsStr) -> Vec<&'a str> {
    let there = |tool: &str| {
        std::env::split_paths(path).any(|dir| {
            let meta = std::fs::metadata(dir.join(tool));
            meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
    };
    tools.iter().map(String::as_str).filter(|tool| !there(tool)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_executable_file_in_path() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            std::fs::write(temp.path().join(name), "").unwrap();
            std::fs::set_permissions(temp.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("openssl", 0o755);
        put("notes", 0o644);
        std::fs::create_dir(temp.path().join("dig")).unwrap();
        let path = std::env::join_paths([temp.path().join("none"), temp.path().to_owned()]).unwrap();
        let tools = ["openssl", "notes", "dig"].map(str::to_owned);
        assert_eq!(missing(&tools, &path), ["notes", "dig"]);
        assert_eq!(missing(&tools, OsStr::new("")).len(), 3);
    }

    #[test]
    fn a_package_of_another_name_is_named() {
        assert!(package("dig").contains("bind-utils"));
        assert_eq!(package("openssl"), "`openssl`");
    }
}
