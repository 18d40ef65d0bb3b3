//! From a pod's container to what the runtime is asked for. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EphemeralContainer, Pod, PodSecurityContext, PodSpec, SecurityContext,
};

use super::{env, fs_group, limits, state::Kind, volumes::Mounted};
use crate::{
    image::StandIn,
    node::runtime::{ContainerConfig, Mount, MountSource},
};

/// A container of any of a pod's three lists, as a plain container.
pub fn find(spec: &PodSpec, kind: Kind, name: &str) -> Option<Container> {
    match kind {
        Kind::Init => spec
            .init_containers
            .iter()
            .flatten()
            .find(|container| container.name == name)
            .cloned(),
        Kind::Main => spec.containers.iter().find(|container| container.name == name).cloned(),
        Kind::Ephemeral => spec
            .ephemeral_containers
            .iter()
            .flatten()
            .find(|container| container.name == name)
            .map(plain),
    }
}

/// The container whose processes an ephemeral container sees.
pub fn target(spec: &PodSpec, name: &str) -> Option<String> {
    spec.ephemeral_containers
        .iter()
        .flatten()
        .find(|container| container.name == name)?
        .target_container_name
        .clone()
}

fn plain(container: &EphemeralContainer) -> Container {
    Container {
        name: container.name.clone(),
        image: container.image.clone(),
        image_pull_policy: container.image_pull_policy.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        working_dir: container.working_dir.clone(),
        volume_mounts: container.volume_mounts.clone(),
        security_context: container.security_context.clone(),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        termination_message_path: container.termination_message_path.clone(),
        termination_message_policy: container.termination_message_policy.clone(),
        ..Container::default()
    }
}

/// What of the node's making goes into a container.
#[derive(Debug)]
pub struct Parts {
    /// The instance's id.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Its environment, resolved.
    pub env: Vec<(String, String)>,
    /// Its volumes by name.
    pub volumes: BTreeMap<String, Mounted>,
    /// Its log file.
    pub log: PathBuf,
    /// Where it says why it ended.
    pub message: Option<Mount>,
    /// The instance whose processes it sees.
    pub share_pid_with: Option<String>,
    /// The machine's memory, bytes.
    pub memory: u64,
}

/// What the runtime is asked for.
///
/// # Errors
/// What this runtime does not do, in words for the status.
pub fn config(pod: &Pod, container: &Container, image: &StandIn, parts: Parts) -> Result<ContainerConfig, String> {
    let security = container.security_context.clone().unwrap_or_default();
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.clone())
        .unwrap_or_default();
    let Capabilities { add, drop } = security.capabilities.clone().unwrap_or_default();
    let (uid, gid) = ids(&security, &of_pod)?;
    if uid.unwrap_or(0) == 0 && security.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        return Err("container has runAsNonRoot and image will run as root".to_owned());
    }
    let lookup = |name: &str| {
        parts
            .env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let expand = |text: &String| env::expand(text, &lookup);
    let command: Vec<String> = container.command.iter().flatten().map(expand).collect();
    let args: Vec<String> = container.args.iter().flatten().map(expand).collect();
    let mut argv = if command.is_empty() {
        image.entrypoint.clone()
    } else {
        command.clone()
    };
    // The image's CMD counts only where neither command nor args are given.
    argv.extend(if args.is_empty() && command.is_empty() {
        image.cmd.clone()
    } else {
        args
    });
    if argv.is_empty() {
        return Err("no command specified".to_owned());
    }
    Ok(ContainerConfig {
        id: parts.id,
        sandbox: parts.sandbox,
        name: container.name.clone(),
        argv,
        cwd: container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from),
        programs: image.programs.clone(),
        uid,
        gid,
        groups: fs_group::groups(pod),
        cap_add: add.unwrap_or_default(),
        cap_drop: drop.unwrap_or_default(),
        no_new_privileges: security.allow_privilege_escalation == Some(false),
        read_only_root: security.read_only_root_filesystem == Some(true),
        privileged: security.privileged == Some(true),
        mounts: mounts(container, &parts.volumes, parts.message, &lookup)?,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        log: Some(parts.log),
        share_pid_with: parts.share_pid_with,
        env: parts.env,
        resources: limits::resources(container),
        oom_score_adj: Some(limits::oom_score(pod, container, parts.memory)),
    })
}

fn ids(security: &SecurityContext, of_pod: &PodSecurityContext) -> Result<(Option<u32>, Option<u32>), String> {
    let number = |value: Option<i64>, what: &str| {
        value
            .map(|value| u32::try_from(value).map_err(|_| format!("{what} {value} is out of range")))
            .transpose()
    };
    Ok((
        number(security.run_as_user.or(of_pod.run_as_user), "runAsUser")?,
        number(security.run_as_group.or(of_pod.run_as_group), "runAsGroup")?,
    ))
}

fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Mounted>,
    message: Option<Mount>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts: Vec<Mount> = message.into_iter().collect();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes
            .get(&mount.name)
            .ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(text), _) if !text.is_empty() => Some(env::expand(text, lookup)),
            (_, Some(text)) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        if sub_path
            .as_ref()
            .is_some_and(|path| path.split('/').any(|part| part == ".."))
        {
            return Err(sub_path_failed(container, &mount.name));
        }
        mounts.push(Mount {
            source: match &volume.inside {
                Some(inside) => MountSource::Part {
                    root: volume.dir.clone(),
                    inside: inside.clone(),
                },
                None => MountSource::Dir(volume.dir.clone()),
            },
            target: PathBuf::from(&mount.mount_path),
            sub_path: sub_path.map(PathBuf::from),
            read_only: volume.read_only || mount.read_only == Some(true),
        });
    }
    // Outer directories before what is mounted in them.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

/// What a `subPath` that leads out of its volume is refused with.
pub fn sub_path_failed(container: &Container, volume: &str) -> String {
    let name = &container.name;
    format!("failed to prepare subPath for volumeMount \"{volume}\" of container \"{name}\"")
}

/// `/etc/resolv.conf` of a pod.
///
/// Source: Kubernetes' "DNS for Services and Pods".
pub fn resolv_conf(pod: &Pod, dns: std::net::Ipv4Addr, domain: &str) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let policy = spec
        .and_then(|spec| spec.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let on_host = spec.and_then(|spec| spec.host_network) == Some(true);
    let (mut servers, mut searches, mut options) = match policy {
        "None" => (Vec::new(), Vec::new(), Vec::new()),
        // the node knows no resolver of the machine's: what the kubelet writes where there is no resolv.conf
        "Default" => (vec!["127.0.0.1".to_owned()], vec![".".to_owned()], Vec::new()),
        "ClusterFirst" if on_host => (vec!["127.0.0.1".to_owned()], vec![".".to_owned()], Vec::new()),
        _ => (
            vec![dns.to_string()],
            vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.to_owned(),
            ],
            vec!["ndots:5".to_owned()],
        ),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        for (held, more) in [(&mut servers, &config.nameservers), (&mut searches, &config.searches)] {
            for one in more.iter().flatten() {
                if !held.contains(one) {
                    held.push(one.clone());
                }
            }
        }
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|held| held.split(':').next() != Some(name.as_str()));
            options.push(
                option
                    .value
                    .as_ref()
                    .map_or_else(|| name.clone(), |value| format!("{name}:{value}")),
            );
        }
    }
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// `/etc/hosts` of a pod.
pub fn hosts(pod: &Pod, ip: std::net::Ipv4Addr, domain: &str) -> String {
    let spec = pod.spec.as_ref();
    let name = hostname(pod);
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    match spec
        .and_then(|spec| spec.subdomain.as_deref())
        .filter(|subdomain| !subdomain.is_empty())
    {
        Some(subdomain) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            text.push_str(&format!("{ip}\t{name}.{subdomain}.{namespace}.svc.{domain}\t{name}\n"));
        }
        None => text.push_str(&format!("{ip}\t{name}\n")),
    }
    let aliases = spec.and_then(|spec| spec.host_aliases.as_ref());
    for alias in aliases.into_iter().flatten() {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.clone().unwrap_or_default().join("\t")
        ));
    }
    text
}

/// The host name its containers see: at most 63 characters.
pub fn hostname(pod: &Pod) -> String {
    let of_spec = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let name = of_spec.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image() -> StandIn {
        StandIn {
            name: "toolbox".into(),
            repositories: vec![],
            entrypoint: vec!["run".into()],
            cmd: vec!["idle".into()],
            env: vec![],
            programs: vec!["curl".into()],
        }
    }

    fn make(container: serde_json::Value) -> Result<ContainerConfig, String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}}))
                .unwrap();
        let mut container = container;
        container["name"] = json!("c");
        let parts = Parts {
            id: "i".into(),
            sandbox: "s".into(),
            env: vec![("A".into(), "1".into())],
            volumes: BTreeMap::from([(
                "v".to_owned(),
                Mounted {
                    dir: "/vol".into(),
                    inside: Some("in".into()),
                    read_only: false,
                    capacity: None,
                },
            )]),
            log: "/log".into(),
            message: None,
            share_pid_with: None,
            memory: 8 << 30,
        };
        config(&pod, &serde_json::from_value(container).unwrap(), &image(), parts)
    }

    #[test]
    fn command_and_args_override_as_kubernetes_says() {
        for (container, expected) in [
            (json!({}), vec!["run", "idle"]),
            (json!({"args": ["x", "$(A)"]}), vec!["run", "x", "1"]),
            (json!({"command": ["sh"]}), vec!["sh"]),
            (
                json!({"command": ["sh"], "args": ["-c", "true"]}),
                vec!["sh", "-c", "true"],
            ),
        ] {
            assert_eq!(make(container.clone()).unwrap().argv, expected, "{container}");
        }
    }

    #[test]
    fn security_and_mounts_are_carried_over() {
        let made = make(json!({
            "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true, "capabilities": {"add": ["NET_RAW"], "drop": ["ALL"]}},
            "volumeMounts": [{"name": "v", "mountPath": "/a/b", "readOnly": true, "subPath": "x"}, {"name": "v", "mountPath": "/a"}]
        }))
        .unwrap();
        assert_eq!(
            (made.uid, made.read_only_root, made.cap_add, made.cap_drop),
            (Some(1000), true, vec!["NET_RAW".into()], vec!["ALL".into()])
        );
        assert_eq!(
            made.mounts
                .iter()
                .map(|m| m.target.to_str().unwrap())
                .collect::<Vec<_>>(),
            ["/a", "/a/b"]
        );
        let sub_paths: Vec<_> = made.mounts.iter().map(|mount| mount.sub_path.clone()).collect();
        assert_eq!(sub_paths, [None, Some("x".into())]);
        let out = json!({"volumeMounts": [{"name": "v", "mountPath": "/w", "subPathExpr": "$(A)/../../x"}]});
        assert_eq!(
            make(out).unwrap_err(),
            "failed to prepare subPath for volumeMount \"v\" of container \"c\""
        );
        assert_eq!(
            make(json!({"volumeMounts": [{"name": "w", "mountPath": "/w"}]})).unwrap_err(),
            "volume \"w\" not found"
        );
    }

    #[test]
    fn an_image_that_runs_as_root_is_refused_where_none_may() {
        let none = json!({"securityContext": {"runAsNonRoot": true}});
        let root = json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}});
        for container in [none, root] {
            let refused = make(container).unwrap_err();
            assert_eq!(refused, "container has runAsNonRoot and image will run as root");
        }
        assert!(make(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 1000}})).is_ok());
    }

    #[test]
    fn the_resolver_finds_short_names() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": []}}))
                .unwrap();
        assert_eq!(
            resolv_conf(&pod, std::net::Ipv4Addr::new(10, 96, 0, 10), "cluster.local"),
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn the_resolver_is_what_the_policy_and_the_configuration_say() {
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local";
        for (spec, expected) in [
            (
                json!({"dnsPolicy": "Default"}),
                "search .\nnameserver 127.0.0.1\n".to_owned(),
            ),
            (
                json!({"hostNetwork": true}),
                "search .\nnameserver 127.0.0.1\n".to_owned(),
            ),
            (
                json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                format!("{cluster}\nnameserver 10.96.0.10\noptions ndots:5\n"),
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.96.0.10"], "searches": ["corp.example"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                "search corp.example\nnameserver 10.96.0.10\noptions ndots:2 edns0\n".to_owned(),
            ),
            (
                json!({"dnsConfig": {"nameservers": ["10.96.0.10", "192.0.2.1"], "searches": ["cluster.local", "corp.example"],
                    "options": [{"name": "ndots", "value": "1"}]}}),
                format!("{cluster} corp.example\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:1\n"),
            ),
        ] {
            let mut pod = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": []}});
            for (field, value) in spec.as_object().unwrap() {
                pod["spec"][field] = value.clone();
            }
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(
                resolv_conf(&pod, std::net::Ipv4Addr::new(10, 96, 0, 10), "cluster.local"),
                expected,
                "{spec}"
            );
        }
    }
}
