//! What a pod asks for that this node does not do: refused where going on would break a promise of confinement or give a program
//! less than it cannot do without, else said in an event and a condition. Nothing is passed over in silence. Pure.

use k8s_openapi::api::core::v1::{Pod, SecurityContext};

use super::{fs_group, state::Failed};

/// The condition of a pod that names what of its spec this node does not do.
pub const NOT_HONOURED: &str = "ztlab.dev/NotHonoured";

/// The settings of the kernel that a pod may have of its own without anybody's leave.
///
/// Source: Kubernetes' "Using sysctls in a Kubernetes Cluster", safe sysctls.
const SAFE: [&str; 12] = [
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

/// A pod's own settings of the kernel, with `.` between the parts of their names.
pub fn sysctls(pod: &Pod) -> Vec<(String, String)> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let all = of_pod.and_then(|security| security.sysctls.as_ref());
    all.into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
        .collect()
}

fn contexts(pod: &Pod) -> impl Iterator<Item = (&str, &SecurityContext)> {
    let spec = pod.spec.as_ref();
    let main = spec.into_iter().flat_map(|spec| {
        let inits = spec.init_containers.iter().flatten();
        inits.chain(&spec.containers)
    });
    let main = main.map(|container| (container.name.as_str(), &container.security_context));
    let ephemeral = spec.and_then(|spec| spec.ephemeral_containers.as_ref());
    let ephemeral = ephemeral.into_iter().flatten();
    let ephemeral = ephemeral.map(|container| (container.name.as_str(), &container.security_context));
    main.chain(ephemeral)
        .filter_map(|(name, context)| context.as_ref().map(|context| (name, context)))
}

/// Why the node takes no such pod, for good, as Kubernetes' kubelet refuses one.
pub fn rejected(pod: &Pod) -> Option<Failed> {
    let spec = pod.spec.as_ref()?;
    for (name, _) in sysctls(pod) {
        let why = if !SAFE.contains(&name.as_str()) {
            format!("forbidden sysctl: \"{name}\" not allowlisted")
        } else if spec.host_network == Some(true) && name.starts_with("net.") {
            format!("forbidden sysctl: \"{name}\" not allowed with host net enabled")
        } else {
            continue;
        };
        return Some(Failed {
            reason: "SysctlForbidden",
            message: format!("Pod was rejected: {why}"),
        });
    }
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|security| security.app_armor_profile.as_ref());
    let profiles = contexts(pod).filter_map(|(_, context)| context.app_armor_profile.as_ref());
    let written = of_pod
        .into_iter()
        .chain(profiles)
        .any(|profile| profile.type_ != "Unconfined");
    let annotated = pod.metadata.annotations.iter().flatten().any(|(key, value)| {
        key.starts_with("container.apparmor.security.beta.kubernetes.io/") && value != "unconfined"
    });
    (written || annotated).then(|| Failed {
        reason: "AppArmor",
        message: "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
    })
}

/// Why the pod gets no sandbox.
pub fn no_sandbox(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    (spec.host_ipc == Some(true))
        .then(|| "hostIPC: no pod of this node shares the machine's memory; use a cluster of kind for this".to_owned())
}

/// Why a container cannot be made: its seccomp profile is a file that this node does not have.
pub fn no_container(pod: &Pod, context: Option<&SecurityContext>) -> Option<String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let of_pod = of_pod.and_then(|security| security.seccomp_profile.as_ref());
    let profile = context
        .and_then(|context| context.seccomp_profile.as_ref())
        .or(of_pod)?;
    (profile.type_ == "Localhost").then(|| {
        let name = profile.localhost_profile.as_deref().unwrap_or_default();
        format!("cannot load seccomp profile \"{name}\": this node has no profiles but its own, RuntimeDefault")
    })
}

/// What runs otherwise than asked on a node that has groups up to `most`, and how.
pub fn not_honoured(pod: &Pod, most: u32) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut all = Vec::new();
    let mut say = |asked: bool, text: &str| {
        if asked {
            all.push(text.to_owned());
        }
    };
    say(
        spec.host_pid == Some(true),
        "hostPID (no pod sees the node's processes; the node tells such a pod which pod a Unix connection comes from, as \
         SPIRE's agent needs it)",
    );
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let lacks = |group: u32| group > most;
    let range = if most == 0 {
        "this user has no range of groups on the machine: /etc/subgid and newgidmap give one".to_owned()
    } else {
        format!("the node has the groups up to {most}")
    };
    let of_volumes = fs_group::of(pod).is_some_and(lacks);
    say(
        of_volumes,
        &format!("fsGroup (volumes belong to the container's own user: {range})"),
    );
    let more = of_pod.supplemental_groups.iter().flatten();
    let more = more.filter_map(|group| u32::try_from(*group).ok()).any(lacks);
    say(more, &format!("supplementalGroups (not all are taken: {range})"));
    let windows = of_pod.windows_options.is_some() || contexts(pod).any(|(_, c)| c.windows_options.is_some());
    say(windows, "windowsOptions (this node is Linux)");
    let selinux = of_pod.se_linux_options.is_some() || contexts(pod).any(|(_, c)| c.se_linux_options.is_some());
    say(selinux, "seLinuxOptions (no labels are set)");
    let seccomp = of_pod.seccomp_profile.iter();
    let seccomp = seccomp.chain(contexts(pod).filter_map(|(_, context)| context.seccomp_profile.as_ref()));
    let unconfined = seccomp.into_iter().any(|profile| profile.type_ == "Unconfined");
    say(
        unconfined,
        "seccompProfile Unconfined (the node's own filter holds for every container)",
    );
    let unmasked = contexts(pod).any(|(_, context)| context.proc_mount.as_deref() == Some("Unmasked"));
    say(unmasked, "procMount Unmasked (/proc is masked for every container)");
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value, context: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "securityContext": context}]);
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_would_break_a_promise_is_refused() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let reason = |pod: Pod| rejected(&pod).map(|failed| failed.reason);
        let plain = json!({});
        assert_eq!(
            reason(pod(sysctl("kernel.msgmax"), plain.clone())),
            Some("SysctlForbidden")
        );
        assert_eq!(reason(pod(sysctl("net.ipv4.tcp_syncookies"), plain.clone())), None);
        assert_eq!(reason(pod(sysctl("net/ipv4/tcp_syncookies"), plain.clone())), None);
        let mut on_host = sysctl("net.ipv4.tcp_syncookies");
        on_host["hostNetwork"] = json!(true);
        assert_eq!(reason(pod(on_host, plain.clone())), Some("SysctlForbidden"));
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        assert_eq!(reason(pod(json!({}), profile("RuntimeDefault"))), Some("AppArmor"));
        assert_eq!(reason(pod(json!({}), profile("Unconfined"))), None);
        assert_eq!(no_sandbox(&pod(json!({"hostPID": true}), plain.clone())), None);
        assert!(no_sandbox(&pod(json!({"hostIPC": true}), plain.clone())).is_some());
        assert_eq!(no_sandbox(&pod(json!({"hostNetwork": true}), plain)), None);
        let local = pod(
            json!({}),
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}),
        );
        let context = local.spec.as_ref().unwrap().containers[0].security_context.as_ref();
        assert!(no_container(&local, context).unwrap().contains("a.json"));
    }

    #[test]
    fn the_rest_is_said() {
        let of_pod = json!({"fsGroup": 5, "supplementalGroups": [6], "windowsOptions": {}, "seLinuxOptions": {},
            "seccompProfile": {"type": "Unconfined"}});
        let asks = pod(json!({"securityContext": of_pod}), json!({"procMount": "Unmasked"}));
        let words = |most| -> Vec<String> {
            let all = not_honoured(&asks, most).into_iter();
            all.filter_map(|text| text.split(' ').next().map(str::to_owned))
                .collect()
        };
        let rest = ["windowsOptions", "seLinuxOptions", "seccompProfile", "procMount"];
        assert_eq!(words(0), [&["fsGroup", "supplementalGroups"], &rest[..]].concat());
        assert_eq!(words(5), [&["supplementalGroups"], &rest[..]].concat());
        assert_eq!(words(65_535), rest);
        let usual = pod(
            json!({"securityContext": {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}}),
            json!({"procMount": "Default", "capabilities": {"drop": ["ALL"]}}),
        );
        assert_eq!(not_honoured(&usual, 0), Vec::<String>::new());
        assert_eq!(rejected(&usual), None);
    }
}
