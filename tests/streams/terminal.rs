//! What people do at a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::cluster::{Cluster, Peer, until};

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    fn run(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(90, 20)).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave: OwnedFd = File::options().read(true).write(true).open(path).unwrap().into();
        // With the terminal as its own, it hears of new sizes.
        let mut with_terminal = Command::new("setsid");
        with_terminal
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            with_terminal.env(name, value.unwrap());
        }
        let child = with_terminal
            .current_dir(command.get_current_dir().unwrap())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        drop(with_terminal);
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let seen = screen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            child,
            keyboard,
            screen,
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let begin = std::time::Instant::now();
        while !self.shown().contains(text) {
            assert!(
                begin.elapsed() < crate::cluster::LONG,
                "no {text:?} in {:?}",
                self.shown()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.keyboard, size(columns, rows)).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program on the terminal ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Quotes in the middle of a word, so that the terminal's echo of a command is not taken for its output.
fn wait_for_size(rows: u16, columns: u16) -> String {
    format!("until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.05; done; echo size-'is'-{columns}\r")
}

fn at_the_shell(terminal: &mut Terminal) {
    terminal.types(&wait_for_size(20, 90));
    terminal.shows("size-is-90");
    terminal.resize(123, 45);
    terminal.types(&wait_for_size(45, 123));
    terminal.shows("size-is-123");
    terminal.types("sh -c 'echo star''ted; exec sleep 1000'\r");
    terminal.shows("started");
    terminal.types("\x03");
    terminal.types("echo code-'is'-$?\r");
    terminal.shows("code-is-130");
}

#[test]
fn a_shell_at_a_terminal() {
    let Some(cluster) = Cluster::start("streams-tty") else {
        return;
    };
    for peer in Cluster::peers() {
        let mut shell = Terminal::run(&cluster.kubectl(peer, &["exec", "-it", "box", "--", "sh"]));
        at_the_shell(&mut shell);
        shell.types("exit 7\r");
        assert_eq!(shell.ends().code(), Some(7), "{peer:?} {}", shell.shown());
        shell.shows("command terminated with exit code 7");

        // A terminal that is gone takes its programs with it.
        let mut shell = Terminal::run(&cluster.kubectl(peer, &["exec", "-it", "box", "--", "sh"]));
        let mark = cluster.mark(0);
        shell.types(&format!("sh -c 'echo run''ning; exec sleep {mark}'\r"));
        shell.shows("running");
        shell.child.kill().unwrap();
        cluster.until_gone(&mark);
    }
}

#[test]
fn pods_are_run_attached_to_and_debugged_at_a_terminal() {
    let Some(cluster) = Cluster::start("streams-run") else {
        return;
    };
    for peer in Cluster::peers() {
        let name = format!("hi-{peer:?}").to_lowercase();
        let run = [
            "run",
            &name,
            "-it",
            "--rm",
            "--restart=Never",
            "--image=ztlab.dev/toolbox:1",
            "--command",
            "--",
            "sh",
        ];
        let mut shell = Terminal::run(&cluster.kubectl(peer, &run));
        // kubectl says so once it is attached; what is typed before is the terminal's
        shell.shows("If you don't see a command prompt");
        at_the_shell(&mut shell);
        // A second client at the same terminal sees what the first types.
        let mut other = Terminal::run(&cluster.kubectl(peer, &["attach", "-it", &name]));
        other.shows("If you don't see a command prompt");
        let mut typed = 0;
        until("the second client types", || {
            typed += 1;
            other.types("echo from-'the'-second\r");
            std::thread::sleep(std::time::Duration::from_millis(300));
            shell.shown().contains("from-the-second") || typed > 100
        });
        shell.shows("from-the-second");
        other.shows("from-the-second");
        shell.types("exit 0\r");
        assert_eq!(shell.ends().code(), Some(0), "{peer:?} {}", shell.shown());
        shell.shows(&format!("pod \"{name}\" deleted"));
        other.ends();
        let gone = cluster.fails(peer, &["get", "pod", &name]);
        assert!(gone.contains("not found"), "{gone}");
    }
    for peer in [Peer::WebSocket, Peer::Spdy] {
        let debug = [
            "debug",
            "-it",
            "pod/box",
            "--image=ztlab.dev/toolbox:1",
            "--target=box",
            "--",
            "sh",
        ];
        let mut shell = Terminal::run(&cluster.kubectl(peer, &debug));
        shell.shows("If you don't see a command prompt");
        // the target's processes are in sight
        shell.types("cat /proc/*/cmdline | tr '\\0' ' ' | grep -c i''dle; echo see'n'\r");
        shell.shows("seen");
        shell.types("exit 0\r");
        assert_eq!(shell.ends().code(), Some(0), "{}", shell.shown());
    }
}
