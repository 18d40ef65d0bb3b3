//! Everything that is wrong with lab files, without running them.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    catalog::{self, CatalogError, Found},
    lab::{self, LabError, Lint, Problem, Severity, Surroundings},
    session::Topologies,
};

/// What is wrong with some lab files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Linted {
    /// Whether no file has an error; warnings are none.
    pub ok: bool,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// Each file.
    pub files: Vec<LintedFile>,
}

/// What is wrong with one lab file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LintedFile {
    /// The file, or the built-in lab's.
    pub file: String,
    /// The lab's id: its directory's name.
    pub lab: String,
    /// How many steps it has, if it can be taken.
    pub steps: Option<usize>,
    /// How many checks it has, if it can be taken.
    pub checks: Option<usize>,
    /// What is wrong, in the file's order.
    pub problems: Vec<Problem>,
}

/// Looks at these files, directories of a lab, or directories of labs; at every lab that can be found from `cwd` when none
/// is named.
///
/// # Errors
/// When one of them cannot be read at all, or holds no lab.
pub fn lint(paths: &[PathBuf], cwd: Option<&Path>) -> Result<Linted, CatalogError> {
    let known = catalog::all(cwd);
    let ids: BTreeSet<String> = known.iter().map(|lab| lab.id.clone()).collect();
    let mut files = Vec::new();
    if paths.is_empty() {
        files.extend(known.iter().map(|found| lint_found(found, &ids)));
    }
    for path in paths {
        for path in labs_of(path)? {
            files.push(match catalog::open(&path) {
                Ok(found) => lint_found(&found, &ids),
                Err(error) => unreadable(&path, error)?,
            });
        }
    }
    let count = |severity| {
        let problems = files.iter().flat_map(|file| &file.problems);
        problems.filter(|problem| problem.severity == severity).count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(Linted {
        ok: errors == 0,
        errors,
        warnings,
        files,
    })
}

/// A lab file itself; of a directory its `lab.yaml`, or that of each directory in it.
fn labs_of(path: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    if !path.is_dir() || path.join("lab.yaml").is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut labs: Vec<PathBuf> = fs::read_dir(path)
        .map_err(|source| CatalogError::at(path, source))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("lab.yaml").is_file())
        .collect();
    labs.sort();
    if labs.is_empty() {
        let path = path.to_owned();
        return Err(CatalogError::NoLab { path });
    }
    Ok(labs)
}

fn lint_found(found: &Found, ids: &BTreeSet<String>) -> LintedFile {
    let file = found.file();
    let among = Surroundings {
        manifests: &Topologies,
        files: &found.files,
    };
    let own = Path::new(&file).file_name().is_some_and(|name| name == "lab.yaml");
    let lint = Lint {
        lab: &|id| ids.contains(id),
        file: &|path| is_beside(found, path),
        directory: own.then_some(found.id.as_str()),
    };
    let (lab, problems) = lab::lint(&file, &found.text, among, lint);
    let checks = |lab: &lab::Lab| lab.steps.iter().map(|step| step.checks.len()).sum();
    LintedFile {
        file,
        lab: found.id.clone(),
        steps: lab.as_ref().map(|lab| lab.steps.len()),
        checks: lab.as_ref().map(checks),
        problems,
    }
}

/// Whether a link of the lab leads to a file beside it.
fn is_beside(found: &Found, path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path);
    let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !path.split('/').all(inside) {
        return false;
    }
    if found.files.contains_key(path) || path == "lab.yaml" {
        return true;
    }
    found.source != catalog::SOURCE_BUILT_IN
        && Path::new(&found.source)
            .parent()
            .is_some_and(|dir| fs::symlink_metadata(dir.join(path)).is_ok_and(|meta| meta.is_file()))
}

/// A file that is refused before it is read is a broken lab; one that cannot be found or opened is no lab at all.
fn unreadable(path: &Path, error: CatalogError) -> Result<LintedFile, CatalogError> {
    let refused = match &error {
        CatalogError::Beside(_) => true,
        CatalogError::File { source, .. } => {
            matches!(source.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData)
        }
        CatalogError::Unknown { .. }
        | CatalogError::NoFile { .. }
        | CatalogError::NoLab { .. }
        | CatalogError::Broken { .. } => false,
    };
    if !refused {
        return Err(error);
    }
    let problem = Problem {
        severity: Severity::Error,
        rule: "refused",
        line: 0,
        column: 0,
        width: 1,
        message: error.to_string(),
        expected: None,
        hint: error.hint(),
        source: String::new(),
    };
    let dir = if path.is_dir() { Some(path) } else { path.parent() };
    let id = dir
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned());
    Ok(LintedFile {
        file: path.display().to_string(),
        lab: id.unwrap_or_default(),
        steps: None,
        checks: None,
        problems: vec![problem],
    })
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            if file.problems.is_empty() {
                let counts = file.steps.zip(file.checks);
                let counts = counts.map_or_else(String::new, |(steps, checks)| {
                    format!(", {steps} steps, {checks} checks")
                });
                writeln!(f, "{}: lab `{}`{counts}: no mistakes", file.file, file.lab)?;
            } else {
                writeln!(f, "{}", LabError::new(&file.file, file.problems.clone()))?;
            }
        }
        match (self.errors, self.warnings) {
            (0, 0) => Ok(()),
            (errors, warnings) => writeln!(f, "\n{errors} errors, {warnings} warnings"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_a_lab_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let lint_one = |path: &Path| lint(&[path.to_owned()], None).unwrap_err();
        for path in [nowhere.clone(), nowhere.join("lab.yaml")] {
            let error = lint_one(&path);
            assert_eq!(error.to_string(), format!("there is no file {}", path.display()));
            assert!(error.hint().unwrap().starts_with("name a lab's file, its directory"));
        }
        let error = lint_one(dir.path());
        assert!(error.to_string().contains("there is no lab in it"), "{error}");
        assert!(error.hint().unwrap().contains("ztlab lab new"), "{error}");
        // What is there but cannot be a lab is told as that.
        let link = dir.path().join("link.yaml");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let error = lint_one(&link);
        assert!(error.to_string().ends_with("is a symbolic link"), "{error}");
        assert!(error.hint().unwrap().contains("plain text file"), "{error}");
    }

    /// The lab `spire` with a change.
    fn changed(from: &str, to: &str) -> Linted {
        let dir = tempfile::tempdir().unwrap();
        let lab = dir.path().join("spire");
        fs::create_dir_all(lab.join("solution")).unwrap();
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/spire");
        for file in fs::read_dir(original.join("solution")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), lab.join("solution").join(file.file_name())).unwrap();
        }
        let text = fs::read_to_string(original.join("lab.yaml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(lab.join("lab.yaml"), text.replacen(from, to, 1)).unwrap();
        lint(&[lab], None).unwrap()
    }

    #[test]
    fn what_is_made_beyond_the_namespace_must_be_said() {
        let layer = "    - layer: spire\n";
        let own = "    - { kind: ClusterSPIFFEID, apiVersion: spire.spiffe.io/v1alpha1, name: shop }\n";
        assert_eq!(changed(layer, layer).errors, 0);
        let told = |linted: &Linted| {
            let problems = linted.files[0].problems.iter();
            let told = problems.filter(|problem| problem.rule == "undeclared-object");
            told.map(|problem| (problem.message.clone(), problem.source.trim().to_owned()))
                .collect::<Vec<_>>()
        };
        // Every action that applies the layer, and the one with a policy in its namespace.
        let found = told(&changed(layer, ""));
        let whole = found.iter().filter(|(_, source)| source.contains("layer: spire"));
        assert_eq!(whole.count(), 3, "{found:?}");
        assert!(
            found.iter().any(|(_, source)| source.contains("walled.yaml")),
            "{found:?}"
        );
        assert!(found.iter().any(|(message, _)| message.ends_with("more")), "{found:?}");
        let found = told(&changed(own, ""));
        assert!(!found.is_empty(), "{found:?}");
        for (message, source) in found {
            assert!(message.ends_with(": ClusterSPIFFEID shop"), "{message}");
            assert!(
                source.contains("by-label.yaml") || source.contains("by-account.yaml"),
                "{source}"
            );
        }
        // What the topology has for the whole cluster, too.
        let found = told(&changed("topology: [flat]", "topology: [flat, spiffe]"));
        assert!(found.is_empty(), "it is said: {found:?}");
    }

    #[test]
    fn an_entry_that_says_nothing_clear_is_told() {
        let own = "    - layer: spire\n";
        for (entry, rule) in [
            ("{ kind: ConfigMap, name: a }", "makes-in-namespace"),
            ("{ layer: spire, kind: ClusterRole, name: a }", "makes-what"),
            ("{ kind: ClusterRole }", "makes-what"),
            ("{ layer: nosuch }", "value"),
        ] {
            let linted = changed(own, &format!("{own}    - {entry}\n"));
            let rules: Vec<_> = linted.files[0].problems.iter().map(|problem| problem.rule).collect();
            assert_eq!(rules, [rule], "{entry}: {:#?}", linted.files[0].problems);
        }
        for entry in ["{ kind: ClusterRole, name: a }", "{ kind: Namespace, name: other }"] {
            assert_eq!(changed(own, &format!("{own}    - {entry}\n")).errors, 0, "{entry}");
        }
    }
}
