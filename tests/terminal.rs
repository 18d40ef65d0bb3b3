//! The terminal interface on a real pseudo-terminal: it takes the terminal, and gives it back however it ends.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use common::{Home, embedded_works};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// Longer than anything takes on a busy machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Set for the process that is to panic.
const FAULT: &str = "ZTLAB_TEST_FAULT";

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

/// What the program wrote so far.
#[derive(Default)]
struct Written {
    text: Mutex<String>,
    more: Condvar,
}

/// Both ends of a new terminal of this size.
fn pair(columns: u16, rows: u16) -> (OwnedFd, File) {
    let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)
        .unwrap();
    tcsetwinsize(
        &terminal,
        Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    (master, terminal)
}

/// A test must not leave the session host that it started.
fn end_host(home: &std::path::Path) {
    if let Ok(mut host) = UnixStream::connect(home.join("run/ztlab/session.sock")) {
        let _ = host.write_all(b"{\"request\":\"run\",\"id\":1,\"command\":\"shutdown\"}\n");
        let _ = host.set_read_timeout(Some(PATIENCE));
        let mut lines = BufReader::new(host).lines();
        while let Some(Ok(_)) = lines.next() {}
    }
}

struct Session {
    home: tempfile::TempDir,
    keyboard: File,
    /// Kept open, so that the terminal's settings can be read after the program has ended.
    terminal: File,
    written: Arc<Written>,
    child: Child,
}

impl Session {
    fn start(columns: u16, rows: u16, environment: &[(&str, &str)]) -> Session {
        Self::run(&[env!("CARGO_BIN_EXE_ztlab")], columns, rows, environment)
    }

    fn run(program: &[&str], columns: u16, rows: u16, environment: &[(&str, &str)]) -> Session {
        let home = tempfile::tempdir().unwrap();
        let (master, terminal) = pair(columns, rows);
        // setsid(1) makes it the program's own controlling terminal, whichever one the tests run on; it does not fork here.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .args(program)
            .env("HOME", home.path())
            .env("XDG_STATE_HOME", home.path().join("state"))
            .env("XDG_RUNTIME_DIR", home.path().join("run"))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .current_dir(home.path())
            .stdin(Stdio::from(terminal.try_clone().unwrap()))
            .stdout(Stdio::from(terminal.try_clone().unwrap()))
            .stderr(Stdio::from(terminal.try_clone().unwrap()));
        let child = command.spawn().unwrap();
        let written = Arc::new(Written::default());
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let sink = written.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                sink.text
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
                sink.more.notify_all();
            }
        });
        Session {
            home,
            keyboard,
            terminal,
            written,
            child,
        }
    }

    /// Waits until the program has written `wanted`.
    fn wait_for(&self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.written.text.lock().unwrap();
        while !text.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {wanted:?} in {text:?}");
            text = self.written.more.wait_timeout(text, left).unwrap().0;
        }
    }

    /// How much it has written so far.
    fn shown(&self) -> usize {
        self.written.text.lock().unwrap().len()
    }

    /// Waits until the program has written `wanted` after its first `start` bytes.
    fn wait_after(&self, start: usize, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.written.text.lock().unwrap();
        while !text.get(start..).is_some_and(|text| text.contains(wanted)) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {wanted:?} after byte {start} of {text:?}");
            text = self.written.more.wait_timeout(text, left).unwrap().0;
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The exit status; by then the terminal must be as it was.
    fn ended(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        // Where it was entered last: what the program wrote at its end may still be on its way.
        let entered = self.written.text.lock().unwrap().rfind(ENTERED).unwrap_or(0);
        self.wait_after(entered, LEFT);
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG),
            "{modes:?}"
        );
        let text = self.written.text.lock().unwrap();
        assert!(
            text.rfind(LEFT) > text.rfind(ENTERED),
            "the alternate screen was left for good"
        );
        status.code().unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A test that failed must leave no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_host(self.home.path());
    }
}

#[test]
fn quitting_gives_the_terminal_back() {
    let mut session = Session::start(80, 24, &[]);
    session.wait_for("zero-trust labs");
    session.press("q");
    assert_eq!(session.ended(), 0);
}

#[test]
fn so_does_every_signal_that_ends_it() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let session = Session::start(80, 24, &[]);
        session.wait_for("zero-trust labs");
        session.signal(signal);
        assert_eq!(session.ended(), code);
    }
}

/// As under `su -c` in a window that is closed: no signal comes, and reading finds the end again and again.
#[test]
fn a_terminal_that_is_gone_ends_it_where_no_signal_tells() {
    let home = tempfile::tempdir().unwrap();
    let (master, terminal) = pair(80, 24);
    let stdio = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = Command::new("setsid")
        .arg(env!("CARGO_BIN_EXE_ztlab"))
        .env("HOME", home.path())
        .env("XDG_STATE_HOME", home.path().join("state"))
        .env("XDG_RUNTIME_DIR", home.path().join("run"))
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    drop(terminal);
    let (mut master, mut text) = (File::from(master), Vec::new());
    while !String::from_utf8_lossy(&text).contains("zero-trust labs") {
        let mut buffer = [0; 4096];
        let read = master
            .read(&mut buffer)
            .expect("the program ended before it drew anything");
        text.extend_from_slice(&buffer[..read]);
    }
    drop(master);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it reads on: {:?}", child.wait());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    end_host(home.path());
    assert_eq!(status.code(), Some(129));
}

/// Not a test of its own: what the next one runs, on a terminal.
#[test]
fn a_fault_while_the_screen_is_taken() {
    if std::env::var_os(FAULT).is_none() {
        return;
    }
    let _screen = ztlab::tui::terminal::Screen::take().unwrap();
    panic!("a fault on purpose");
}

#[test]
fn so_does_a_panic_which_is_still_read() {
    let this = std::env::current_exe().unwrap();
    let args = [
        this.to_str().unwrap(),
        "--exact",
        "a_fault_while_the_screen_is_taken",
        "--nocapture",
    ];
    let session = Session::run(&args, 80, 24, &[(FAULT, "1")]);
    session.wait_for("a fault on purpose");
    {
        let text = session.written.text.lock().unwrap();
        assert!(
            text.find(LEFT) < text.find("a fault on purpose"),
            "the message was lost with the alternate screen: {text:?}"
        );
        assert!(text.find(ENTERED) < text.find(LEFT), "the screen was never taken");
    }
    assert_eq!(session.ended(), 101);
}

#[test]
fn help_opens_and_closes_and_a_resize_is_followed() {
    let mut session = Session::start(120, 40, &[]);
    session.wait_for("zero-trust labs");
    session.press("?");
    session.wait_for("Everywhere");
    tcsetwinsize(
        &session.terminal,
        Winsize {
            ws_row: 10,
            ws_col: 40,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    session.signal(Signal::WINCH);
    session.wait_for("headless:");
    session.press("\x03");
    assert_eq!(session.ended(), 0);
}

#[test]
fn keys_are_heard_one_after_another() {
    let mut session = Session::start(80, 24, &[]);
    session.wait_for("zero-trust labs");
    for _ in 0..3 {
        let shown = session.shown();
        session.press("?");
        session.wait_after(shown, "Everywhere");
        let shown = session.shown();
        session.press("\x1b[F");
        session.wait_after(shown, "undetermined");
        let shown = session.shown();
        session.press("\r");
        session.wait_after(shown, "start");
    }
    session.press("q");
    assert_eq!(session.ended(), 0);
}

#[test]
fn without_colours_none_are_sent() {
    let mut session = Session::start(80, 24, &[("NO_COLOR", "1")]);
    session.wait_for("zero-trust labs");
    session.press("q");
    session.child.wait().unwrap();
    session.wait_for(LEFT);
    let text = session.written.text.lock().unwrap();
    for colour in ["\x1b[36m", "\x1b[38;5;", "\x1b[31m", "\x1b[32m"] {
        assert!(!text.contains(colour), "{colour:?} in {text:?}");
    }
    drop(text);
    assert_eq!(session.ended(), 0);
}

#[test]
fn a_command_at_the_prompt_runs_in_the_students_shell_and_takes_its_own_interrupts() {
    let home = Home::new("prompt");
    if !embedded_works() {
        return;
    }
    let started = home.ztlab(&["lab", "start", "wiretap"]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let path = |of: &str| home.path().join(of).display().to_string();
    let (own, state, run) = (path(""), path("state"), path("run"));
    let environment = [
        ("HOME", own.as_str()),
        ("XDG_STATE_HOME", state.as_str()),
        ("XDG_RUNTIME_DIR", run.as_str()),
        ("SHELL", "/bin/sh"),
    ];
    let mut session = Session::start(80, 24, &environment);
    session.wait_for("step 1 of");
    session.press("p");
    // The lab's next command is there, and nothing has run it.
    session.wait_for("Your prompt");
    let shown = session.shown();
    session.press("\x15echo \"<$ZTLAB>\" ${KUBECONFIG:+with a cluster}; cat\r");
    session.wait_after(shown, LEFT);
    session.wait_after(shown, "<wiretap> with a cluster");
    // It runs, and has the keyboard, once it says again what it is told.
    session.press("here\r");
    session.wait_after(shown, "here\r\nhere");
    session.press("\x03");
    session.wait_after(shown, "ended by signal 2; enter goes back to the lab");
    let shown = session.shown();
    session.press("\r");
    session.wait_after(shown, ENTERED);
    session.wait_after(shown, "step 1 of");
    session.press("q");
    assert_eq!(session.ended(), 0);
}
