//! The Pod Security Standards: why a pod is not `baseline`, or not `restricted`. Pure.
//!
//! Source: Kubernetes' "Pod Security Standards" and "Pod Security Admission"; the texts are theirs.

use serde_json::Value;

use super::view::Object;

/// How much a namespace lets its pods do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// What leads to no known way out of the pod.
    Baseline,
    /// What hardened pods need.
    Restricted,
}

impl Level {
    /// Reads a label's value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const RESTRICTED_VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Why a pod's spec is not of a level, one text for each rule that it breaks.
pub fn violations(level: Level, spec: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if level == Level::Privileged {
        return all;
    }
    let pod = Pod(Object(spec));
    let restricted = level == Level::Restricted;
    if !restricted {
        all.extend(pod.capabilities());
    }
    all.extend(pod.host_namespaces());
    if !restricted {
        all.extend(pod.host_paths());
    }
    all.extend(pod.host_ports());
    all.extend(pod.forbidden("privileged", "securityContext.privileged=true", |one| {
        one.bool("securityContext.privileged")
    }));
    all.extend(
        pod.forbidden("procMount", "securityContext.procMount to \"Unmasked\"", |one| {
            !matches!(one.str("securityContext.procMount"), "" | "Default")
        }),
    );
    if !restricted {
        all.extend(pod.unconfined());
    }
    all.extend(pod.sysctls());
    if restricted {
        all.extend(pod.hardened());
    }
    all
}

struct Pod<'a>(Object<'a>);

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("container{plural} {}", quoted(names))
}

impl<'a> Pod<'a> {
    fn containers(&self) -> Vec<Object<'a>> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists
            .iter()
            .flat_map(|list| self.0.items(list).collect::<Vec<_>>())
            .collect()
    }

    fn names(&self, test: impl Fn(Object<'a>) -> bool) -> Vec<&'a str> {
        let all = self.containers().into_iter().filter(|one| test(*one));
        all.map(|one| one.str("name")).collect()
    }

    fn forbidden(&self, rule: &str, what: &str, test: impl Fn(Object<'a>) -> bool) -> Option<String> {
        let names = self.names(test);
        (!names.is_empty()).then(|| format!("{rule} ({} must not set {what})", containers(&names)))
    }

    fn host_namespaces(&self) -> Option<String> {
        let set = ["hostNetwork", "hostPID", "hostIPC"]
            .into_iter()
            .filter(|field| self.0.bool(field));
        let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
        (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
    }

    fn host_paths(&self) -> Option<String> {
        let volumes = self.0.items("volumes").filter(|volume| volume.at("hostPath").is_set());
        let names: Vec<&str> = volumes.map(|volume| volume.str("name")).collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        (!names.is_empty()).then(|| format!("hostPath volumes (volume{plural} {})", quoted(&names)))
    }

    fn host_ports(&self) -> Option<String> {
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for container in self.containers() {
            let used = container
                .items("ports")
                .map(|port| port.int("hostPort"))
                .filter(|port| *port != 0);
            let used: Vec<String> = used.map(|port| port.to_string()).collect();
            if !used.is_empty() {
                names.push(container.str("name"));
                ports.extend(used);
            }
        }
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let plural = if ports.len() == 1 { "" } else { "s" };
        (!names.is_empty()).then(|| {
            format!(
                "hostPort ({} {verb} hostPort{plural} {})",
                containers(&names),
                ports.join(", ")
            )
        })
    }

    fn added(&self, container: Object<'a>, allowed: &[&str]) -> Vec<&'a str> {
        let added = container.items("securityContext.capabilities.add");
        let added = added.filter_map(|one| one.0.as_str());
        added.filter(|one| !allowed.contains(one)).collect()
    }

    fn beyond(&self, allowed: &[&str]) -> Option<String> {
        let names = self.names(|one| !self.added(one, allowed).is_empty());
        let mut added: Vec<&str> = self
            .containers()
            .into_iter()
            .flat_map(|one| self.added(one, allowed))
            .collect();
        added.sort_unstable();
        added.dedup();
        (!names.is_empty()).then(|| {
            format!(
                "{} must not include {} in securityContext.capabilities.add",
                containers(&names),
                quoted(&added)
            )
        })
    }

    fn capabilities(&self) -> Option<String> {
        self.beyond(&DEFAULT_CAPABILITIES)
            .map(|why| format!("non-default capabilities ({why})"))
    }

    fn unconfined(&self) -> Option<String> {
        const TYPE: &str = "securityContext.seccompProfile.type";
        let is = |of: Object<'a>| of.str(TYPE) == "Unconfined";
        let names = self.names(is);
        let who = match (is(self.0), names.is_empty()) {
            (false, true) => return None,
            (true, true) => "pod".to_owned(),
            (true, false) => format!("pod and {}", containers(&names)),
            (false, false) => containers(&names),
        };
        Some(format!("seccompProfile ({who} must not set {TYPE} to \"Unconfined\")"))
    }

    fn sysctls(&self) -> Option<String> {
        let set = self.0.items("securityContext.sysctls").map(|one| one.str("name"));
        let unsafe_ones: Vec<&str> = set.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
        (!unsafe_ones.is_empty()).then(|| format!("forbidden sysctls ({})", unsafe_ones.join(", ")))
    }

    /// What `restricted` asks for beyond `baseline`.
    fn hardened(&self) -> Vec<String> {
        let mut all = Vec::new();
        let escalating = self.names(|one| one.at("securityContext.allowPrivilegeEscalation").0 != &Value::Bool(false));
        if !escalating.is_empty() {
            let who = containers(&escalating);
            all.push(format!(
                "allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"
            ));
        }
        let keeping = self.names(|one| {
            let mut dropped = one.items("securityContext.capabilities.drop");
            !dropped.any(|one| one.0 == "ALL")
        });
        let mut causes = Vec::new();
        if !keeping.is_empty() {
            let who = containers(&keeping);
            causes.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
        }
        causes.extend(self.beyond(&["NET_BIND_SERVICE"]));
        if !causes.is_empty() {
            all.push(format!("unrestricted capabilities ({})", causes.join("; ")));
        }
        all.extend(self.volumes());
        all.extend(self.run_as_root());
        all.extend(self.user_zero());
        all.extend(self.seccomp());
        all
    }

    fn volumes(&self) -> Option<String> {
        let (mut names, mut kinds) = (Vec::new(), Vec::new());
        for volume in self.0.items("volumes") {
            let fields = volume.0.as_object().into_iter().flatten();
            let mut kinds_here = fields.map(|(name, _)| name.as_str()).filter(|name| *name != "name");
            if let Some(kind) = kinds_here.find(|kind| !RESTRICTED_VOLUMES.contains(kind)) {
                names.push(volume.str("name"));
                kinds.push(kind);
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        let (volumes, verb) = if names.len() == 1 {
            ("volume", "uses")
        } else {
            ("volumes", "use")
        };
        let types = if kinds.len() == 1 { "type" } else { "types" };
        (!names.is_empty()).then(|| {
            let (names, kinds) = (quoted(&names), quoted(&kinds));
            format!("restricted volume types ({volumes} {names} {verb} restricted volume {types} {kinds})")
        })
    }

    fn run_as_root(&self) -> Option<String> {
        const FIELD: &str = "securityContext.runAsNonRoot";
        let is = |of: Object<'a>, value: bool| of.at(FIELD).0 == &Value::Bool(value);
        let explicit = self.names(|one| is(one, false));
        if !explicit.is_empty() {
            let who = containers(&explicit);
            return Some(format!("runAsNonRoot != true ({who} must not set {FIELD}=false)"));
        }
        if is(self.0, true) {
            return None;
        }
        let silent = self.names(|one| !one.at(FIELD).is_set());
        if is(self.0, false) {
            return Some(format!("runAsNonRoot != true (pod must not set {FIELD}=false)"));
        }
        (!silent.is_empty()).then(|| {
            format!(
                "runAsNonRoot != true (pod or {} must set {FIELD}=true)",
                containers(&silent)
            )
        })
    }

    fn user_zero(&self) -> Option<String> {
        let is = |of: Object<'a>| of.at("securityContext.runAsUser").0.as_i64() == Some(0);
        let names = self.names(is);
        let who = match (is(self.0), names.is_empty()) {
            (false, true) => return None,
            (true, true) => "pod".to_owned(),
            (true, false) => format!("pod and {}", containers(&names)),
            (false, false) => containers(&names),
        };
        Some(format!("runAsUser=0 ({who} must not set runAsUser=0)"))
    }

    fn seccomp(&self) -> Option<String> {
        const TYPE: &str = "securityContext.seccompProfile.type";
        let good = |of: Object<'a>| matches!(of.str(TYPE), "RuntimeDefault" | "Localhost");
        let explicit = self.names(|one| one.at(TYPE).is_set() && !good(one));
        let wanted = format!("{TYPE} to \"RuntimeDefault\" or \"Localhost\"");
        if !explicit.is_empty() {
            let who = containers(&explicit);
            return Some(format!("seccompProfile ({who} must set {wanted})"));
        }
        if good(self.0) {
            return None;
        }
        if self.0.at(TYPE).is_set() {
            return Some(format!("seccompProfile (pod must set {wanted})"));
        }
        let silent = self.names(|one| !one.at(TYPE).is_set());
        (!silent.is_empty()).then(|| format!("seccompProfile (pod or {} must set {wanted})", containers(&silent)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control_plane::api::test_json;

    fn of(level: Level, spec: &Value) -> String {
        violations(level, spec).join(", ")
    }

    #[test]
    fn what_is_not_baseline_is_named() {
        let pod = json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": [
            {"name": "a", "ports": [{"hostPort": 80}], "securityContext": {"privileged": true}},
            {"name": "b", "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN", "CHOWN"]},
                "seccompProfile": {"type": "Unconfined"}}}]});
        assert_eq!(
            of(Level::Baseline, &pod),
            "non-default capabilities (container \"b\" must not include \"NET_ADMIN\" in securityContext.capabilities.add), \
             host namespaces (hostNetwork=true), hostPath volumes (volume \"v\"), hostPort (container \"a\" uses hostPort 80), \
             privileged (containers \"a\", \"b\" must not set securityContext.privileged=true), \
             seccompProfile (container \"b\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
        );
        assert_eq!(of(Level::Privileged, &pod), "");
        assert_eq!(of(Level::Baseline, &json!({"containers": [{"name": "c"}]})), "");
    }

    #[test]
    fn what_is_not_restricted_is_named() {
        assert_eq!(
            of(Level::Restricted, &json!({"containers": [{"name": "c"}]})),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")"
        );
        let good = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}]});
        assert_eq!(of(Level::Restricted, &good), "");
        let mut bad = good.clone();
        bad["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        bad["containers"][0]["securityContext"]["runAsUser"] = json!(0);
        bad["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["SYS_TIME"]);
        assert_eq!(
            of(Level::Restricted, &bad),
            "unrestricted capabilities (container \"c\" must not include \"SYS_TIME\" in securityContext.capabilities.add), \
             restricted volume types (volume \"v\" uses restricted volume type \"hostPath\"), \
             runAsUser=0 (container \"c\" must not set runAsUser=0)"
        );
    }

    proptest! {
        /// What is restricted is baseline too, and no spec panics.
        #[test]
        fn the_levels_are_ordered(spec in test_json::object()) {
            let (baseline, restricted) = (of(Level::Baseline, &spec), of(Level::Restricted, &spec));
            prop_assert!(!restricted.is_empty() || baseline.is_empty(), "{}", baseline);
        }
    }
}
