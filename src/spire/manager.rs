//! The controller manager's configuration, as the ConfigMap has it that its container mounts. Pure.

use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// The namespaces that SPIRE's controller manager leaves out when its file says nothing.
const IGNORED: [&str; 3] = ["kube-system", "kube-public", "spire-system"];

/// What of it decides which objects and namespaces count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manager {
    /// Regular expressions of the names of namespaces that are left out.
    pub ignore_namespaces: Vec<String>,
    /// Objects of this class are acted on.
    pub class_name: String,
    /// And those without a class.
    pub watch_classless: bool,
    /// What the ids of its entries begin with.
    #[serde(rename = "entryIDPrefix")]
    pub prefix: String,
    /// Which kinds it acts on; all without it.
    pub reconcile: Option<Reconcile>,
}

/// Which kinds a controller manager acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconcile {
    /// Whether on ClusterSPIFFEIDs.
    #[serde(rename = "clusterSPIFFEIDs")]
    pub cluster_spiffe_ids: bool,
}

impl Default for Manager {
    fn default() -> Self {
        Self {
            ignore_namespaces: IGNORED.map(str::to_owned).to_vec(),
            class_name: String::new(),
            watch_classless: false,
            prefix: String::new(),
            reconcile: None,
        }
    }
}

impl Manager {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut read: Self = serde_yaml::from_str(text).ok()?;
        if !read.prefix.is_empty() && !read.prefix.ends_with('.') {
            read.prefix.push('.');
        }
        Some(read)
    }

    /// The expression that leaves a namespace out.
    pub(super) fn ignores(&self, namespace: &str) -> Option<&str> {
        let mut all = self.ignore_namespaces.iter();
        all.find(|text| Regex::new(text).is_ok_and(|one| one.is_match(namespace)))
            .map(String::as_str)
    }

    /// Whether ClusterSPIFFEIDs are acted on at all.
    pub(super) fn acts(&self) -> bool {
        self.reconcile.as_ref().is_none_or(|kinds| kinds.cluster_spiffe_ids)
    }

    /// Whether objects of this class are acted on.
    pub(super) fn acts_on(&self, class: &str) -> bool {
        class == self.class_name || (class.is_empty() && self.watch_classless)
    }

    /// Whether an entry of this id is one of its own: known only where it marks them.
    pub(super) fn made(&self, id: &str) -> bool {
        !self.prefix.is_empty() && id.starts_with(&self.prefix)
    }
}

/// The file that a container is told to read by `-config`, and the ConfigMap and key that it is from.
pub(super) fn config_file(spec: &PodSpec, container: &Container) -> Option<(String, String)> {
    let words: Vec<&String> = container
        .command
        .iter()
        .flatten()
        .chain(container.args.iter().flatten())
        .collect();
    let path = words.iter().enumerate().find_map(|(at, word)| {
        let flag = word.trim_start_matches('-');
        match flag.split_once('=') {
            Some(("config", path)) => Some(path.to_owned()),
            None if flag == "config" && word.starts_with('-') => words.get(at + 1).map(|word| (*word).clone()),
            _ => None,
        }
    })?;
    // SPIRE's Helm chart names it relative to where the program starts.
    let path = match path.strip_prefix('/') {
        Some(_) => path,
        None => {
            let directory = container.working_dir.as_deref().unwrap_or("/");
            format!("{}/{path}", directory.trim_end_matches('/'))
        }
    };
    let mount = container
        .volume_mounts
        .iter()
        .flatten()
        .filter(|mount| path == mount.mount_path || path.starts_with(&format!("{}/", mount.mount_path)))
        .max_by_key(|mount| mount.mount_path.len())?;
    let below = path[mount.mount_path.len()..].trim_start_matches('/');
    let file = match mount.sub_path.as_deref().filter(|sub| !sub.is_empty()) {
        Some(sub) if below.is_empty() => sub.to_owned(),
        Some(sub) => format!("{sub}/{below}"),
        None => below.to_owned(),
    };
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name)?;
    let source = volume.config_map.as_ref()?;
    let key = source
        .items
        .iter()
        .flatten()
        .find(|item| item.path == file)
        .map_or(file, |item| item.key.clone());
    Some((source.name.clone(), key))
}

/// A key of a ConfigMap.
pub(super) fn text<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}

/// The admin socket that a server's configuration names, in HCL or JSON.
pub(super) fn socket(config: &str) -> Option<String> {
    let line = Regex::new(r#"(?m)^\s*"?socket_path"?\s*[=:]\s*"([^"]+)""#).ok()?;
    line.captures(config).map(|found| found[1].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spire::testing::read;

    #[test]
    fn a_configuration_says_whom_it_leaves_out_and_what_it_acts_on() {
        let manager = Manager::parse(
            "apiVersion: spire.spiffe.io/v1alpha1\nkind: ControllerManagerConfig\nclusterName: demo\n\
             entryIDPrefix: demo\nignoreNamespaces: ['^kube-.*', spire]\nclassName: a\nwatchClassless: true\n",
        )
        .unwrap();
        assert_eq!(manager.ignores("kube-system"), Some("^kube-.*"));
        assert_eq!(manager.ignores("my-spire"), Some("spire"));
        assert_eq!(manager.ignores("shop"), None);
        assert!(manager.acts_on("a") && manager.acts_on("") && !manager.acts_on("b"));
        assert!(manager.made("demo.x") && !manager.made("demox") && !Manager::default().made("x"));
        let plain = Manager::parse("kind: x\n").unwrap();
        assert_eq!(plain.ignores("spire-system"), Some("spire-system"));
        assert!(plain.acts_on("") && !plain.acts_on("a") && plain.acts());
        let statics = Manager::parse("reconcile: {clusterStaticEntries: true}\n").unwrap();
        assert!(!statics.acts());
    }

    #[test]
    fn the_configuration_of_a_container_is_found_by_its_mounts() {
        let spec = |args: &[&str], mount: serde_json::Value| -> PodSpec {
            read(
                json!({"containers": [{"name": "c", "args": args, "volumeMounts": [mount]}],
                "volumes": [{"name": "v", "configMap": {"name": "cm", "items": [{"key": "k", "path": "items.yaml"}]}}]}),
            )
        };
        let directory = json!({"name": "v", "mountPath": "/etc/manager"});
        for (args, mount, expected) in [
            (&["-config=/etc/manager/a.yaml"][..], directory.clone(), Some("a.yaml")),
            (&["--config", "/etc/manager/items.yaml"], directory.clone(), Some("k")),
            (
                &["--config=/m.yaml"],
                json!({"name": "v", "mountPath": "/m.yaml", "subPath": "sub.yaml"}),
                Some("sub.yaml"),
            ),
            (
                &["--config=m.yaml"],
                json!({"name": "v", "mountPath": "/m.yaml", "subPath": "m.yaml"}),
                Some("m.yaml"),
            ),
            (&["--config=/etc/manager-other/a"], directory.clone(), None),
            (&["config"], directory, None),
        ] {
            let spec = spec(args, mount);
            let found = config_file(&spec, &spec.containers[0]);
            let expected = expected.map(|key| ("cm".to_owned(), key.to_owned()));
            assert_eq!(found, expected, "{args:?}");
        }
    }

    #[test]
    fn a_servers_socket_is_read_from_either_language() {
        assert_eq!(
            socket("server {\n  socket_path = \"/a/b.sock\"\n}"),
            Some("/a/b.sock".into())
        );
        assert_eq!(
            socket("{\"server\":{\n\"socket_path\": \"/c.sock\"}}"),
            Some("/c.sock".into())
        );
        assert_eq!(socket("# admin_socket_path = \"/x\"\n"), None);
    }
}
