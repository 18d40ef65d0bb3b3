//! `curl-entrypoint`: the entry point of `curlimages/curl`, which runs `curl` unless its first argument is a program.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use crate::standins::process;

/// Runs curl with the arguments, or the program that the first argument names.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match args.split_first() {
        Some((program, rest)) if is_program(program, env::var_os("PATH").as_deref()) => {
            if program == "curl" {
                return super::curl::main(rest.to_vec());
            }
            let error = Command::new(program).args(rest).exec();
            process::complain("curl-entrypoint", &format!("{}: {error}", program.display()));
            ExitCode::from(126)
        }
        _ => super::curl::main(args),
    }
}

fn is_program(name: &OsStr, path: Option<&OsStr>) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.starts_with(b"-") {
        return false;
    }
    if bytes.contains(&b'/') {
        return is_executable(Path::new(name));
    }
    name == "curl" || path.is_some_and(|path| env::split_paths(path).any(|dir| is_executable(&dir.join(name))))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_options_go_to_curl_and_programs_run() {
        let path = OsStr::new("/bin:/usr/bin");
        for (argument, program) in [
            ("-s", false),
            ("http://orders-api/", false),
            ("", false),
            ("curl", true),
            ("sh", true),
            ("/bin/sh", true),
            ("/etc/passwd", false),
            ("no-such-program", false),
        ] {
            assert_eq!(is_program(OsStr::new(argument), Some(path)), program, "{argument}");
        }
    }
}
