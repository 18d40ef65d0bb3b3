//! A command at a terminal, step by step.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{compare::Shown, table::Step};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace('\r', "")
    }

    /// Waits for `text` behind what was seen before; gives where it ends.
    fn shows(&self, text: &str, seen: usize) -> Result<usize, String> {
        let begin = Instant::now();
        loop {
            let screen = self.text();
            if let Some(at) = screen.get(seen..).and_then(|rest| rest.find(text)) {
                return Ok(seen + at + text.len());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the terminal does not show {text:?}:\n{screen}"));
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn ends(&mut self) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Runs a command through its steps to its end.
///
/// # Errors
/// What the terminal did not show.
pub fn run(command: &Command, (columns, rows): (u16, u16), steps: &[Step]) -> Result<Shown, String> {
    let mut terminal = start(command, size(columns, rows));
    let mut seen = 0;
    for step in steps {
        match step {
            Step::Shows(text) => seen = terminal.shows(text, seen)?,
            Step::Types(text) => {
                let keys = match text.as_str() {
                    "^C" => "\x03".to_owned(),
                    "^D" => "\x04".to_owned(),
                    line => format!("{line}\r"),
                };
                terminal.keyboard.write_all(keys.as_bytes()).unwrap();
            }
            Step::Resize(columns, rows) => tcsetwinsize(&terminal.keyboard, size(*columns, *rows)).unwrap(),
        }
    }
    let code = terminal.ends();
    Ok(Shown {
        code,
        stdout: terminal.text(),
        stderr: String::new(),
    })
}

fn start(command: &Command, size: Winsize) -> Terminal {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, size).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave: OwnedFd = File::options().read(true).write(true).open(path).unwrap().into();
    // With the terminal as its own, it hears of new sizes and of keys that interrupt.
    let mut process = Command::new("setsid");
    process
        .arg("--ctty")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        process.env(name, value.unwrap());
    }
    let child = process
        .current_dir(command.get_current_dir().unwrap())
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    drop(process);
    let keyboard = File::from(master);
    let mut reader = keyboard.try_clone().unwrap();
    let screen = Arc::new(Mutex::new(Vec::new()));
    let into = screen.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    Terminal {
        child,
        keyboard,
        screen,
    }
}
