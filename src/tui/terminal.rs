//! Taking the terminal and giving it back, whatever happens: on return, on a panic, on SIGTERM and SIGHUP.

use std::{
    fs::OpenOptions,
    io::{self, Stdout, stdout},
    os::fd::AsFd,
    panic,
    sync::Once,
};

use crossterm::{
    cursor::Show,
    event::{DisableBracketedPaste, EnableBracketedPaste},
    execute,
    terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The terminal, taken; dropping it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    taken: bool,
}

impl Screen {
    /// Takes the terminal: raw mode and the alternate screen.
    ///
    /// # Errors
    /// When standard output is no terminal, or it refuses.
    pub fn take() -> io::Result<Screen> {
        restore_on_panic();
        enter()?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| restore())?;
        Ok(Screen { terminal, taken: true })
    }

    /// The terminal to draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }

    /// Gives the terminal back for a while, to a shell.
    pub fn suspend(&mut self) {
        if std::mem::take(&mut self.taken) {
            restore();
        }
    }

    /// Takes it again and forgets what was on it.
    ///
    /// # Errors
    /// When the terminal went away.
    pub fn resume(&mut self) -> io::Result<()> {
        enter()?;
        self.taken = true;
        self.forget()
    }

    /// Forgets what is on the terminal: the next drawing is a whole one.
    ///
    /// [`Terminal::clear`] asks the terminal where its cursor is, and fails where none answers.
    ///
    /// # Errors
    /// When the terminal went away.
    pub fn forget(&mut self) -> io::Result<()> {
        execute!(stdout(), Clear(ClearType::All))?;
        self.terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(())
    }
}

/// Whether nobody is at the other end of the terminal any more. The kernel tells only the programs whose controlling terminal
/// it was, which it is not under `su -c`; and reading it on and on would tell nothing either.
pub fn hung_up(terminal: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(terminal, PollFlags::empty())];
    // What cannot be asked is no answer; the signals are there still.
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().contains(PollFlags::HUP)
}

/// Lets what is still printed go nowhere: a message that cannot be told would be a fault (`eprintln!`).
fn silence() {
    let nowhere = OpenOptions::new().write(true).open("/dev/null");
    if let Ok(nowhere) = nowhere {
        // Where it cannot be, what follows cannot be either.
        let _ = rustix::stdio::dup2_stdout(&nowhere);
        let _ = rustix::stdio::dup2_stderr(&nowhere);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if hung_up(&io::stdin()) {
            silence();
        }
        self.suspend();
    }
}

/// A terminal that gives each key as it is pressed, and shows what stands on it; dropping it gives it back.
pub struct Raw(());

impl Raw {
    /// Takes the keys.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> io::Result<Raw> {
        enable_raw_mode()?;
        Ok(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = disable_raw_mode();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste).inspect_err(|_| restore())
}

/// Puts the terminal back as it was. Twice does no harm.
fn restore() {
    // A terminal that is gone needs no restoring.
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// A panic's message belongs on a terminal that can show it.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
    });
}
