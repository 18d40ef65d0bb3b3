//! Programs of others' making, where the machine has them.

use std::{path::PathBuf, process::Output, time::Duration};

use tokio::{process::Command, time::timeout};

/// More than any machine takes for what is waited for here: a test that waits for ever says nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program of that name on the `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

/// A peer that `make test` makes with the program `with`. It may be missing where that is missing too; says loudly that it is.
pub fn peer(name: &str, with: &str) -> Option<PathBuf> {
    let found = on_path(name);
    if found.is_none() {
        // The set-up says so where what it is made of could not be fetched.
        let unfetched = on_path(&format!("{name}.unfetched")).is_some();
        let could = std::env::var("CI").as_deref() == Ok("true") && on_path(with).is_some() && !unfetched;
        assert!(!could, "CI has {with}, and so must have {name}: scripts/setup.sh test");
        eprintln!("SKIPPED: this machine lacks {name}");
    }
    found
}

/// What a program prints until it ends.
pub async fn output(command: &mut Command) -> Output {
    let ended = timeout(PATIENCE, command.kill_on_drop(true).output());
    ended
        .await
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
