//! How things look. Every meaning is carried by a symbol or a word too, since colours may be off.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Styles by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    colour: bool,
}

impl Theme {
    /// Colours unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn from_environment() -> Theme {
        Theme {
            colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// With colours, or with weight and reversal alone.
    pub const fn new(colour: bool) -> Theme {
        Theme { colour }
    }

    fn tinted(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Plain text.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// Titles of screens and panes.
    pub fn title(self) -> Style {
        self.tinted(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Text that matters more.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Text in italics, underlined where terminals lack them.
    pub fn emphasis(self) -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }

    /// Text that matters less.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Commands and code.
    pub fn code(self) -> Style {
        self.tinted(Color::Yellow)
    }

    /// Keys.
    pub fn key(self) -> Style {
        self.tinted(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Passed, ready.
    pub fn good(self) -> Style {
        self.tinted(Color::Green)
    }

    /// Failed.
    pub fn bad(self) -> Style {
        self.tinted(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Undetermined, waiting.
    pub fn unsure(self) -> Style {
        self.tinted(Color::Yellow)
    }

    /// Bytes that leaked: nothing on the screen stands out more.
    pub fn leak(self) -> Style {
        let style = self.tinted(Color::Red);
        style.add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    /// The border of a pane, and of the pane that keys act on.
    pub fn border(self, focused: bool) -> Style {
        if focused {
            self.tinted(Color::Cyan).add_modifier(Modifier::BOLD)
        } else {
            self.quiet()
        }
    }

    /// The chosen row of a list.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
