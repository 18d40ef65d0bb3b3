//! Lines of the prompt, one after another: where one leaves the shell, the next one begins.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
};

use super::{Place, plain, program};
use crate::paths;

/// What runs a line in a shell of POSIX's language. `$1` is where variables and directory are kept, `$2` the line, `$3` the
/// kubeconfig. Variables of the line are exported, so that all of them are kept (POSIX, 2.14, `export -p`). It is one line,
/// since shells name its number where they complain of what the student typed.
const RUN: &str = "[ -r \"$1\" ] && . \"$1\" 2>/dev/null; [ -r \"$1.dir\" ] && cd \"$(cat \"$1.dir\")\" 2>/dev/null; \
                   export KUBECONFIG=\"$3\"; \
                   trap '(umask 077; export -p > \"$1.new\" && mv \"$1.new\" \"$1\"; pwd > \"$1.dir\")' EXIT; \
                   set -a; eval \"$2\"";

/// Shells that speak it.
const POSIX: [&str; 7] = ["sh", "dash", "ash", "bash", "zsh", "ksh", "mksh"];

/// Where the lines of one interface keep what goes on: in the user's own directory of this login, gone when this is dropped.
/// Where there is no such directory, each line has a shell of its own.
#[derive(Debug)]
pub struct Lines {
    kept: Option<PathBuf>,
}

impl Lines {
    /// With nothing kept yet. What interfaces left that were killed goes.
    pub fn new() -> Lines {
        Lines { kept: place().ok() }
    }

    /// The student's shell with a line to run, as the last line at this place left it.
    pub fn command(&self, place: &Place, line: &str) -> Command {
        self.at(program(place), place, line)
    }

    fn at(&self, mut command: Command, place: &Place, line: &str) -> Command {
        let shell = Path::new(command.get_program()).file_name().unwrap_or_default();
        let posix = POSIX.iter().any(|posix| shell == *posix);
        command.arg("-c");
        match &self.kept {
            Some(kept) if posix => {
                // `$0` is what the shell calls itself where it complains.
                command.arg(RUN).arg("prompt");
                command
                    .arg(kept.join(plain(&place.label)))
                    .arg(line)
                    .arg(&place.kubeconfig)
            }
            _ => command.arg(line),
        };
        command
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(kept) = &self.kept {
            // What stays is swept by the next one.
            let _ = fs::remove_dir_all(kept);
        }
    }
}

fn place() -> io::Result<PathBuf> {
    let dir = paths::private_dir(paths::runtime_dir()?.join("lines"))?;
    for left in fs::read_dir(&dir)?.flatten() {
        if !Path::new("/proc").join(left.file_name()).exists() {
            // Somebody else may be sweeping too.
            let _ = fs::remove_dir_all(left.path());
        }
    }
    paths::private_dir(dir.join(process::id().to_string()))
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    struct Student {
        lines: Lines,
        dir: tempfile::TempDir,
        shell: &'static str,
    }

    impl Student {
        fn at(shell: &'static str) -> Option<Student> {
            let there = Path::new(shell).exists();
            let dir = tempfile::tempdir().unwrap();
            let kept = dir.path().join("kept");
            fs::create_dir(&kept).unwrap();
            there.then(|| Student {
                lines: Lines { kept: Some(kept) },
                dir,
                shell,
            })
        }

        fn run(&self, line: &str) -> Output {
            let place = Place {
                kubeconfig: "/some/kube config".into(),
                label: "wiretap".to_owned(),
                work: Some(self.dir.path().to_owned()),
            };
            let mut command = self.lines.at(Command::new(self.shell), &place, line);
            command.current_dir(self.dir.path()).output().unwrap()
        }

        fn said(&self, line: &str) -> String {
            String::from_utf8(self.run(line).stdout).unwrap()
        }
    }

    #[test]
    fn variables_and_the_directory_go_on_in_every_shell() {
        let students: Vec<_> = ["/bin/sh", "/bin/dash", "/bin/bash", "/bin/zsh"]
            .into_iter()
            .filter_map(Student::at)
            .collect();
        assert!(!students.is_empty());
        for student in students {
            student.run("TOKEN='it'\"'\"'s \"$HOME\"\nof mine'; mkdir -p \"a dir\"; cd 'a dir'");
            assert_eq!(
                student.said("printf %s \"$TOKEN\"; pwd"),
                format!("it's \"$HOME\"\nof mine{}/a dir\n", student.dir.path().display()),
                "{}",
                student.shell
            );
            // A line that ends the shell is no exception, and its status is the line's.
            assert_eq!(student.run("KEY=7; exit 3").status.code(), Some(3), "{}", student.shell);
            assert_eq!(student.said("printf %s \"$KEY$TOKEN\""), "7it's \"$HOME\"\nof mine");
            assert_eq!(student.run("false").status.code(), Some(1));
            // The cluster is the lab's, whatever was typed before.
            student.run("export KUBECONFIG=/elsewhere; cd ..; rmdir 'a dir'");
            assert_eq!(
                student.said("printf %s \"$KUBECONFIG\"; pwd"),
                format!("/some/kube config{}\n", student.dir.path().display())
            );
        }
    }

    #[test]
    fn without_a_place_to_keep_anything_a_line_is_run_as_it_is() {
        let place = Place {
            kubeconfig: "/k".into(),
            label: "wiretap".to_owned(),
            work: None,
        };
        let command = Lines { kept: None }.at(Command::new("sh"), &place, "echo $0");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["-c", "echo $0"]);
    }

    #[test]
    fn a_directory_that_is_gone_leads_back_to_the_lab_and_a_mistake_is_named() {
        let Some(student) = Student::at("/bin/bash") else {
            return;
        };
        student.run("mkdir gone; cd gone; rmdir ../gone");
        assert_eq!(student.said("pwd"), format!("{}\n", student.dir.path().display()));
        let wrong = student.run("kubectll get pods");
        assert_eq!(wrong.status.code(), Some(127));
        let said = String::from_utf8(wrong.stderr).unwrap();
        assert!(said.contains("line 1: kubectll: command not found"), "{said}");
    }

    #[test]
    fn what_is_kept_is_the_students_alone() {
        use std::os::unix::fs::PermissionsExt;
        let Some(student) = Student::at("/bin/sh") else { return };
        student.run("umask 022; SECRET=1");
        let mode = fs::metadata(student.lines.kept.as_ref().unwrap().join("wiretap"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let kept = student.lines.kept.clone().unwrap();
        drop(student.lines);
        assert!(!kept.exists());
    }
}
