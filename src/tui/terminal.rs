//! Taking the terminal and giving it back, whatever happens: on return, on a panic, on SIGTERM and SIGHUP.

use std::{
    io::{self, Stdout, stdout},
    panic,
    sync::Once,
};

use crossterm::{
    cursor::Show,
    event::{DisableBracketedPaste, EnableBracketedPaste},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};

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
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
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
