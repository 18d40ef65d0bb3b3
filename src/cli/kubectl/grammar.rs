//! The command line of the built-in kubectl: the part of the real one's that labs use, under the same names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "kubectl",
    about = "ztlab's built-in kubectl: the verbs that labs use",
    after_help = "Everything else wants the real one: https://kubernetes.io/docs/tasks/tools/",
    disable_help_subcommand = true
)]
pub struct Line {
    /// The namespace
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show objects: get pods, get deploy/web -o yaml, get pods,svc -A
    Get(Get),
    /// Create objects or change them to what a file says (by server-side apply)
    Apply(Files),
    /// Delete objects
    Delete(Delete),
    /// Set labels (key=value) and take them away (key-)
    Label(Label),
    /// Print what a container wrote
    Logs(Logs),
    /// Run a command in a container
    Exec(Exec),
}

#[derive(Debug, Args)]
pub struct Get {
    /// KIND[,KIND] [NAME…], or KIND/NAME…
    #[arg(required = true)]
    pub what: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Only objects with these fields
    #[arg(long)]
    pub field_selector: Option<String>,
    /// In every namespace
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// The form
    #[arg(short, long, value_enum)]
    pub output: Option<Form>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Wide,
    Yaml,
    Json,
    Name,
}

#[derive(Debug, Args)]
pub struct Files {
    /// A file, a directory, or - for standard input
    #[arg(short, long, required = true)]
    pub filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// KIND NAME…, or KIND/NAME…
    #[arg(required_unless_present = "filename")]
    pub what: Vec<String>,
    /// What a file names: a file, a directory, or - for standard input
    #[arg(short, long, conflicts_with = "what")]
    pub filename: Vec<PathBuf>,
    /// Seconds a pod is given to end
    #[arg(long)]
    pub grace_period: Option<u32>,
    /// Return when the objects are gone (true), or at once (false)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub wait: bool,
    /// No error when there is no such object
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Debug, Args)]
pub struct Label {
    /// KIND NAME, or KIND/NAME, then key=value or key-
    #[arg(required = true, num_args = 2..)]
    pub what: Vec<String>,
    /// Change labels that are there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The pod, or KIND/NAME of what has pods
    pub pod: String,
    /// The container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as it writes
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines; -1 for all
    #[arg(long, allow_hyphen_values = true)]
    pub tail: Option<i64>,
    /// Of the container's life before
    #[arg(short, long)]
    pub previous: bool,
    /// With the time of every line
    #[arg(long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    /// The pod, or KIND/NAME of what has pods
    pub pod: String,
    /// The container
    #[arg(short, long)]
    pub container: Option<String>,
    /// Give the command this standard input
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The command
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Which objects `what` names: a kind's name with the names of objects, none for all.
///
/// # Errors
/// What is wrong with it, as kubectl says it.
pub fn targets(what: &[String]) -> Result<Vec<(String, Vec<String>)>, String> {
    if what.iter().any(|one| one.contains('/')) {
        let mut found = Vec::new();
        for one in what {
            match one.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
                    found.push((kind.to_owned(), vec![name.to_owned()]));
                }
                _ => {
                    return Err(format!(
                        "there is no need to specify a resource type as a separate argument when passing arguments in \
                         resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource \
                         resource/<resource_name>': {one:?}"
                    ));
                }
            }
        }
        return Ok(found);
    }
    let Some((kinds, names)) = what.split_first() else {
        return Err("You must specify the type of resource to get".to_owned());
    };
    let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
    Ok(kinds.map(|kind| (kind.to_owned(), names.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_grammar_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn objects_are_named_as_with_kubectl() {
        let expect = |line: &str, expected: &[(&str, &[&str])]| {
            let found = targets(&words(line)).unwrap();
            let found: Vec<(&str, Vec<&str>)> = found
                .iter()
                .map(|(kind, names)| (kind.as_str(), names.iter().map(String::as_str).collect()))
                .collect();
            let expected: Vec<(&str, Vec<&str>)> =
                expected.iter().map(|(kind, names)| (*kind, names.to_vec())).collect();
            assert_eq!(found, expected, "{line}");
        };
        expect("pods", &[("pods", &[])]);
        expect("pods,svc", &[("pods", &[]), ("svc", &[])]);
        expect("pod a b", &[("pod", &["a", "b"])]);
        expect("pod/a deploy/b", &[("pod", &["a"]), ("deploy", &["b"])]);
        for wrong in ["pod pod/a", "pod/", "/a", "a/b/c"] {
            assert!(targets(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_labs_type_is_understood() {
        for line in [
            "kubectl get pods -n shop",
            "kubectl -n shop get pods -o wide",
            "kubectl get netpol -A -o yaml",
            "kubectl apply -f -",
            "kubectl apply -n shop -f a.yaml -f b.yaml",
            "kubectl delete pod mallory --wait=false",
            "kubectl delete -f a.yaml",
            "kubectl label pod mallory app=frontend tier- --overwrite",
            "kubectl logs -f deploy/web --tail=3",
            "kubectl logs web -c side --tail -1",
            "kubectl exec -it mallory -- sh -c id",
            "kubectl exec -n shop deploy/mallory -c tools -- curl -s http://x",
        ] {
            Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "kubectl",
            "kubectl drain x",
            "kubectl exec x sh",
            "kubectl delete",
            "kubectl label pod",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
