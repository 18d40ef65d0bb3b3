//! A line that is being typed.

use super::keys::Action;

/// The text so far, and where the next character goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// The text so far.
    pub text: Vec<char>,
    /// Where the next character goes.
    pub cursor: usize,
}

impl Field {
    /// A line with this text, and the cursor behind it.
    pub fn new(text: &str) -> Field {
        let text: Vec<char> = text.chars().collect();
        let cursor = text.len();
        Field { text, cursor }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.text.iter().collect::<String>().trim().to_owned()
    }

    /// Puts characters in at the cursor, as long as there are fewer than `most`.
    pub fn insert(&mut self, typed: impl Iterator<Item = char>, most: usize) {
        for c in typed {
            if self.text.len() < most {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
            }
        }
    }

    /// Does what an editing key says; other keys change nothing.
    pub fn edit(&mut self, action: Action) {
        match action {
            Action::Erase if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Action::Delete if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Action::EraseWord => {
                let before = &self.text[..self.cursor];
                let word = before.iter().rposition(|c| *c != ' ').map_or(0, |last| last + 1);
                let from = before[..word]
                    .iter()
                    .rposition(|c| *c == ' ')
                    .map_or(0, |space| space + 1);
                self.text.drain(from..self.cursor);
                self.cursor = from;
            }
            Action::EraseAll => {
                self.text.clear();
                self.cursor = 0;
            }
            Action::Left => self.cursor = self.cursor.saturating_sub(1),
            Action::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            Action::LineStart => self.cursor = 0,
            Action::LineEnd => self.cursor = self.text.len(),
            Action::WordLeft => self.cursor = self.word_before(),
            Action::WordRight => self.cursor = self.word_behind(),
            _ => {}
        }
    }

    /// Where the word at or before the cursor begins: letters, digits and `_`, as readline moves.
    fn word_before(&self) -> usize {
        let before = &self.text[..self.cursor];
        let end = before.iter().rposition(|c| in_word(*c)).map_or(0, |last| last + 1);
        before[..end]
            .iter()
            .rposition(|c| !in_word(*c))
            .map_or(0, |other| other + 1)
    }

    /// Where the word at or behind the cursor ends.
    fn word_behind(&self) -> usize {
        let rest = self.text.iter().skip(self.cursor);
        let other = rest.clone().take_while(|c| !in_word(**c)).count();
        self.cursor + other + rest.skip(other).take_while(|c| in_word(**c)).count()
    }
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_characters_go_on_both_sides_of_the_cursor() {
        let mut field = Field::new("curl -H 'TOKEN' url");
        field.edit(Action::EraseWord);
        assert_eq!(field.text(), "curl -H 'TOKEN'");
        field.edit(Action::Erase);
        field.edit(Action::EraseWord);
        assert_eq!(field.text(), "curl -H");
        field.edit(Action::LineStart);
        field.edit(Action::Delete);
        field.insert("k".chars(), 100);
        assert_eq!(field.text(), "kurl -H");
        field.edit(Action::EraseWord);
        assert_eq!(field.text(), "url -H");
        field.edit(Action::LineEnd);
        field.edit(Action::Delete);
        field.insert("xyz".chars(), 8);
        assert_eq!(field.text(), "url -H x", "no more than may be");
    }
    #[test]
    fn a_word_to_replace_is_found_among_quotes() {
        let mut field = Field::new("curl -H 'X-Key: KEY' url");
        let mut stops = Vec::new();
        for _ in 0..7 {
            field.edit(Action::WordLeft);
            stops.push(field.cursor);
        }
        assert_eq!(stops, [21, 16, 11, 9, 6, 0, 0]);
        let mut stops = Vec::new();
        for _ in 0..7 {
            field.edit(Action::WordRight);
            stops.push(field.cursor);
        }
        assert_eq!(stops, [4, 7, 10, 14, 19, 24, 24]);
    }
}
