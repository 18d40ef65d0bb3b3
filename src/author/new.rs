//! A new lab that runs: the beginning of another one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the new lab is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLab {
    /// Its id, which becomes its directory's name.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The zero trust level it starts at.
    pub level: u8,
    /// The directory of labs in which its own is made.
    pub dir: PathBuf,
}

/// Why no lab was made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The id cannot be a lab's.
    #[error("`{id}` cannot be the id of a lab")]
    Id {
        /// The id.
        id: String,
    },
    /// The title cannot be a lab's.
    #[error("the title must be one line of words")]
    Title,
    /// There is something in its place.
    #[error("{}: is there already", path.display())]
    There {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl NewError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Id { .. } => "lower-case letters, digits and dashes, at most 32, as in `my-first-lab`",
            Self::Title => "give another one with --title",
            Self::There { .. } => "choose another id, or move the directory away",
            Self::Io { .. } => "see that the directory can be written, or name another one with --dir",
        }
    }
}

/// The lab's file; `{{…}}` is filled in.
const LAB: &str = include_str!("new/lab.yaml");
/// The manifest beside it.
const VISITOR: &str = include_str!("new/visitor.yaml");

/// Writes the lab, and gives the files it wrote.
///
/// # Errors
/// When the id or the title cannot be a lab's, something is in its place, or it cannot be written.
pub fn new(lab: &NewLab) -> Result<Vec<PathBuf>, NewError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let id = &lab.id;
    if !(1..=32).contains(&id.len()) || !id.chars().all(letters) || id.starts_with('-') || id.ends_with('-') {
        return Err(NewError::Id {
            id: crate::text::one_line(id),
        });
    }
    let title = lab.title.trim();
    if title.is_empty() || crate::text::clean(title) != title || title.contains('\n') {
        return Err(NewError::Title);
    }
    let dir = lab.dir.join(id);
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => NewError::There { path },
            _ => NewError::Io { path, source },
        }
    };
    fs::create_dir_all(&lab.dir).map_err(failed(&lab.dir))?;
    // Fails where it is there, so that nothing is ever overwritten.
    fs::create_dir(&dir).map_err(failed(&dir))?;
    let text = LAB
        .replace("{{id}}", id)
        // A JSON string is a YAML string, whatever is in it.
        .replace("{{title}}", &serde_json::Value::from(title).to_string())
        .replace("{{level}}", &lab.level.to_string());
    let mut written = Vec::new();
    for (name, text) in [("lab.yaml", text.as_str()), ("visitor.yaml", VISITOR)] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::lint;

    fn lab(dir: &Path, id: &str, title: &str) -> NewLab {
        NewLab {
            id: id.to_owned(),
            title: title.to_owned(),
            level: 1,
            dir: dir.to_owned(),
        }
    }

    #[test]
    fn a_new_lab_has_no_mistakes() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("labs");
        // A title that would break YAML if it were not quoted.
        let written = new(&lab(&dir, "my-lab", "Who's \"there\": a: b # c")).unwrap();
        assert_eq!(written.len(), 2);
        let linted = lint(&[dir.join("my-lab")], None).unwrap();
        assert_eq!((linted.errors, linted.warnings), (0, 0), "{linted}");
        assert_eq!(linted.files[0].lab, "my-lab");
        assert!(linted.files[0].steps.unwrap() >= 2);
    }

    #[test]
    fn nothing_is_overwritten_and_no_path_is_an_id() {
        let temp = tempfile::tempdir().unwrap();
        new(&lab(temp.path(), "a", "A")).unwrap();
        fs::write(temp.path().join("a/lab.yaml"), "mine").unwrap();
        assert!(matches!(new(&lab(temp.path(), "a", "A")), Err(NewError::There { .. })));
        assert_eq!(fs::read_to_string(temp.path().join("a/lab.yaml")).unwrap(), "mine");
        for id in ["", "A", "../a", "a/b", "-a", &"a".repeat(33)] {
            assert!(
                matches!(new(&lab(temp.path(), id, "A")), Err(NewError::Id { .. })),
                "{id}"
            );
        }
        for title in ["", " ", "a\nb", "a\x1b[31m"] {
            assert!(
                matches!(new(&lab(temp.path(), "b", title)), Err(NewError::Title)),
                "{title:?}"
            );
        }
    }
}
