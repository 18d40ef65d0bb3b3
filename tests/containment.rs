//! What confines a pod: what it sees, whom it reaches, what it can use up. Real pods, as whoever runs the tests and, where that is
//! root, as an ordinary user.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/lab.rs"]
mod lab;

use std::{fs, net::TcpListener, path::Path};

use lab::{Lab, everywhere, pod, text};
use serde_json::json;

/// Directories of the machine whose content pods may read: programs, libraries, and what those need.
const SHARED: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu", "/etc",
];
const DEVICES: &str = "fd full mqueue null ptmx pts random shm stderr stdin stdout termination-log tty urandom zero";

/// A file somewhere on the machine, gone with the test.
struct Marker(std::path::PathBuf);

impl Marker {
    fn put(dir: &str, name: &str) -> Option<Self> {
        let path = Path::new(dir).join(name);
        fs::write(&path, "of the machine").ok().map(|()| Self(path))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_pod_sees_nothing_of_the_machine() {
    everywhere(|lab| {
        let name = format!("ztlab-marker-{}", std::process::id());
        let home = lab.home().join("state");
        let places = [
            home.to_str().unwrap(),
            "/tmp",
            "/var/tmp",
            "/run",
            "/dev/shm",
            "/root",
            "/home",
        ];
        let markers: Vec<_> = places.iter().filter_map(|dir| Marker::put(dir, &name)).collect();
        assert!(markers.len() >= 3, "{}", markers.len());
        assert!(lab.ztlab(&["cluster", "create", "other"]).status.success());
        lab.apply(&[
            pod("root", json!({}), json!({})),
            pod("user", json!({"securityContext": {"runAsUser": 1000}}), json!({})),
            pod("host-net", json!({}), json!({"hostNetwork": true})),
        ]);
        for pod in ["root", "user", "host-net"] {
            lab.ready(pod);
            // walk all of it: no marker, no cluster's files
            let found = lab.try_sh(
                pod,
                &format!(
                    "find / -path /proc -prune -o \\( -name {name} -o -name node.json -o -name kubeconfig \\) -print"
                ),
            );
            assert_eq!(text(&found.stdout), "", "{pod}");
            assert_eq!(
                lab.sh(
                    pod,
                    "ls -A /home /root /mnt /opt 2>/dev/null | grep -v : | grep . ; true"
                ),
                "",
                "{pod}"
            );
            assert_eq!(
                lab.sh(pod, "ls -A /var").split_whitespace().collect::<Vec<_>>(),
                ["log", "run", "tmp"],
                "{pod}"
            );
            let run = lab.sh(pod, "find /run -mindepth 1");
            assert!(run.lines().all(|line| line.starts_with("/run/secrets")), "{pod}: {run}");
            let devices = lab.sh(pod, "ls /dev");
            assert_eq!(
                devices.split_whitespace().collect::<Vec<_>>().join(" "),
                DEVICES,
                "{pod}"
            );
            mounts(&lab.sh(pod, "cat /proc/self/mountinfo"), pod);
        }
        assert!(lab.ztlab(&["cluster", "delete", "other"]).status.success());
    });
}

/// Every mount is of the pod's own memory, or a read-only part of the machine that pods may read.
fn mounts(text: &str, pod: &str) {
    let mut looked_at = 0;
    for line in text.lines() {
        let (mount, file_system) = line.split_once(" - ").unwrap();
        let fields: Vec<_> = mount.split(' ').collect();
        let (target, options) = (fields[4], fields[5]);
        let kind = file_system.split(' ').next().unwrap();
        let read_only = options.split(',').any(|option| option == "ro");
        assert!(options.contains("nosuid"), "{pod}: {line}");
        let shared = SHARED.iter().any(|dir| target.starts_with(dir)) || target.starts_with("/.ztlab");
        let device = target.starts_with("/dev/") || target.starts_with("/proc/");
        if !["tmpfs", "proc", "devpts", "mqueue"].contains(&kind) {
            looked_at += 1;
            assert!(read_only && (shared || device), "{pod}: {line}");
        }
    }
    assert!(looked_at > 0, "{text}");
}

#[test]
fn what_acts_on_the_machine_is_masked_and_refused() {
    everywhere(|lab| {
        lab.apply(&[
            pod("p", json!({}), json!({})),
            pod("user", json!({"securityContext": {"runAsUser": 1000}}), json!({})),
        ]);
        for pod in ["p", "user"] {
            lab.ready(pod);
            for file in ["keys", "timer_list", "kcore", "interrupts"] {
                if Path::new("/proc").join(file).exists() {
                    assert_eq!(lab.sh(pod, &format!("head -c 64 /proc/{file}")), "", "{pod}: {file}");
                }
            }
            for write in [
                "/proc/sys/kernel/hostname",
                "/proc/sysrq-trigger",
                "/proc/sys/kernel/pid_max",
                "/usr/x",
            ] {
                assert!(
                    !lab.try_sh(pod, &format!("echo 4194304 > {write}")).status.success(),
                    "{pod}: {write}"
                );
            }
            assert!(!lab.try_sh(pod, "mknod /tmp/disk b 254 0").status.success(), "{pod}");
            assert!(!lab.try_sh(pod, "mount -t tmpfs none /mnt").status.success(), "{pod}");
            let status = lab.sh(pod, "grep -E '^Seccomp:' /proc/self/status; ulimit -c; ulimit -Hc");
            assert_eq!(status, "Seccomp:\t2\n0\n0\n", "{pod}");
            for (what, number) in [
                ("keyctl", libc::SYS_keyctl),
                ("add_key", libc::SYS_add_key),
                ("bpf", libc::SYS_bpf),
            ] {
                let errno = lab.sh(pod, &format!("perl -e 'syscall({number}, 0, 0, 0, 0, 0); print $!+0'"));
                assert_eq!(errno, libc::EPERM.to_string(), "{pod}: {what}");
            }
        }
    });
}

#[test]
fn a_pod_reaches_no_other_pods_processes_and_no_service_of_the_machine() {
    everywhere(|lab| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(lab.ztlab(&["cluster", "create", "other"]).status.success());
        let other = fs::read_to_string(lab.dir().with_file_name("other").join("kubeconfig")).unwrap();
        let other = other
            .lines()
            .find_map(|line| line.split_once("https://127.0.0.1:"))
            .unwrap()
            .1
            .trim_matches('"')
            .to_owned();
        lab.apply(&[
            pod("victim", json!({"command": ["sleep", "31337"]}), json!({})),
            pod("p", json!({}), json!({})),
            pod("host-net", json!({}), json!({"hostNetwork": true})),
        ]);
        for pod in ["victim", "p", "host-net"] {
            lab.ready(pod);
        }
        let knock = |pod: &str, address: &str| {
            let (host, port) = address.split_once(':').unwrap();
            let script = format!("timeout 5 bash -c 'exec 3<>/dev/tcp/{host}/{port}'");
            lab.try_sh(pod, &script).status.success()
        };
        for pod in ["p", "host-net"] {
            // the way there is open: to this cluster's own API server
            assert!(knock(pod, "10.96.0.1:443"), "{pod}");
            for address in [format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", other)] {
                assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
                assert!(!knock(pod, &address), "{pod}: {address}");
            }
            let seen = lab.sh(pod, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
            assert!(!seen.contains("31337"), "{pod}: {seen}");
            // every process that it may signal, gets one
            let _ = lab.try_sh(pod, "kill -9 -1");
        }
        let victim = lab.get(&["pod", "victim"])["status"]["containerStatuses"][0].clone();
        assert_eq!(
            (&victim["restartCount"], &victim["ready"]),
            (&json!(0), &json!(true)),
            "{victim}"
        );
        assert!(lab.ztlab(&["cluster", "delete", "other"]).status.success());
    });
}

/// A pod that is asked over the network, and the question.
fn served(lab: &Lab) -> impl Fn() + '_ {
    lab.apply(&[
        pod(
            "web",
            json!({"image": "nginxdemos/hello", "command": null,
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}}),
            json!({}),
        ),
        pod("client", json!({}), json!({})),
    ]);
    lab.ready("web");
    lab.ready("client");
    let ip = lab.get(&["pod", "web"])["status"]["podIP"].as_str().unwrap().to_owned();
    move || {
        let script = format!(r"exec 3<>/dev/tcp/{ip}/80; printf 'GET / HTTP/1.0\r\n\r\n' >&3; head -1 <&3");
        let answer = lab.try_kubectl(&["exec", "client", "--", "bash", "-c", &script]);
        assert!(text(&answer.stdout).contains(" 200 "), "{}", text(&answer.stderr));
    }
}

#[test]
fn a_flood_of_processes_stays_in_its_pod() {
    everywhere(|lab| {
        // before Linux 6.14 the node counts, and ends who has too many
        let by_node = lab.log().contains("the kernel does not bound a container's processes");
        let ask = served(lab);
        ask();
        // each child tries for itself too: a bomb, but one that counts what it was refused
        let bomb = "$| = 1; my $refused = 0; \
            for (1..5000) { my $p = fork; if (!defined $p) { $refused++ } elsif (!$p) { fork; sleep 1000; exit } } \
            print \"refused $refused\\n\"; sleep 1000";
        lab.apply(&[pod("bomb", json!({"command": ["perl", "-e", bomb]}), json!({}))]);
        if by_node {
            lab.until("the node ends the bomb", || {
                let status = lab.get(&["pod", "bomb"])["status"]["containerStatuses"][0].clone();
                status["lastState"]["terminated"]["exitCode"] == 137
            });
        } else {
            lab.until("the bomb goes off", || {
                text(&lab.try_kubectl(&["logs", "bomb"]).stdout).contains("refused")
            });
            let said = lab.kubectl(&["logs", "bomb"]);
            let refused: u32 = said.trim().trim_start_matches("refused ").parse().unwrap();
            assert!(refused >= 5000 - 1024, "{said}");
        }
        for _ in 0..5 {
            ask();
        }
        let web = lab.get(&["pod", "web"])["status"]["containerStatuses"][0].clone();
        assert_eq!(
            (&web["restartCount"], &web["ready"]),
            (&json!(0), &json!(true)),
            "{web}"
        );
        lab.kubectl(&["delete", "pod", "bomb"]);
        ask();
    });
}

#[test]
fn a_full_disk_stays_in_its_pod() {
    everywhere(|lab| {
        let ask = served(lab);
        let before = used(&lab.dir());
        let volumes = json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}, {"name": "h", "hostPath": {"path": "/run/x"}}]});
        let mounts = json!([{"name": "v", "mountPath": "/v"}, {"name": "h", "mountPath": "/h"}]);
        lab.apply(&[pod("filler", json!({"volumeMounts": mounts}), volumes)]);
        lab.ready("filler");
        for dir in ["/tmp", "/v", "/dev/shm", "/h", "/var/tmp"] {
            let full = lab.try_sh("filler", &format!("dd if=/dev/zero of={dir}/big bs=1M count=200"));
            assert!(
                text(&full.stderr).contains("No space left on device"),
                "{dir}: {}",
                text(&full.stderr)
            );
        }
        // many empty files fill a file system as well
        let files = "for (1..100000) { open my $f, '>', \"/v/$_\" or do { print \"$_ $!\"; exit } }";
        let many = lab.sh(
            "filler",
            &format!("rm /v/big; perl -e '{}'", files.replace('\'', "'\\''")),
        );
        assert!(many.contains("No space left on device"), "{many}");
        lab.apply(&[pod(
            "talker",
            json!({"command": ["sh", "-c", "yes | head -c 40000000; sleep 1000"]}),
            json!({}),
        )]);
        lab.ready("talker");
        lab.until("the talker has said it all", || used(&lab.dir()) > before + (10 << 20));
        let left = lab.try_sh("talker", "true");
        assert!(left.status.success(), "{}", text(&left.stderr));
        let grown = used(&lab.dir()).saturating_sub(before);
        assert!(grown < 30 << 20, "{grown} bytes on the machine's disk");
        ask();
    });
}

#[test]
fn a_persistent_volume_is_held_to_its_capacity() {
    everywhere(|lab| {
        let place = lab.dir().join("volumes/pv");
        let (modes, size) = (json!(["ReadWriteOnce"]), json!({"storage": "4Mi"}));
        lab.apply(&[
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {"accessModes": modes,
                "capacity": size, "storageClassName": "by-hand", "hostPath": {"path": place, "type": "DirectoryOrCreate"},
                "claimRef": {"namespace": "default", "name": "claim"}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"}, "spec": {"accessModes": modes,
                "storageClassName": "by-hand", "volumeName": "pv", "resources": {"requests": size}}}),
        ]);
        let bound = r#"{"status": {"phase": "Bound"}}"#;
        lab.kubectl(&[
            "patch",
            "pvc",
            "claim",
            "--subresource=status",
            "--type=merge",
            "-p",
            bound,
        ]);
        // it stops by itself, lest a test that fails fills the disk
        let fill = "while [ $(ls /v | wc -l) -lt 100 ]; do head -c 1000000 /dev/urandom > /v/$(ls /v | wc -l); sleep 0.2; done; sleep 1000";
        let volumes = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]});
        let mounts = json!([{"name": "v", "mountPath": "/v"}]);
        lab.apply(&[
            pod(
                "filler",
                json!({"command": ["sh", "-c", fill], "volumeMounts": mounts}),
                volumes,
            ),
            pod("other", json!({}), json!({})),
        ]);
        lab.ready("other");
        lab.event(
            "filler",
            "VolumeFull: volume \"v\" holds more than the 4194304 bytes of its PersistentVolume",
        );
        lab.until("no container starts on a full volume", || {
            let status = lab.get(&["pod", "filler"])["status"]["containerStatuses"][0].clone();
            status["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        });
        let held = fs::read_dir(&place).unwrap().count();
        assert!((5..60).contains(&held), "{held}");
        lab.sh("other", "true");
        // with room again, it starts again
        for file in fs::read_dir(&place).unwrap().flatten() {
            fs::remove_file(file.path()).unwrap();
        }
        lab.ready("filler");
    });
}

/// Bytes of the files in a directory of the machine.
fn used(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum += used(&entry.path()),
            Ok(meta) => sum += meta.len(),
            Err(_) => {}
        }
    }
    sum
}

#[test]
fn memory_is_bounded_a_process_and_the_pod_says_so() {
    everywhere(|lab| {
        let eater = "$x = \"x\" x 400_000_000; print \"ate it\"";
        let limits = json!({"limits": {"memory": "128Mi", "cpu": "500m"}});
        let mut eats = pod(
            "eater",
            json!({"command": ["perl", "-e", eater], "resources": limits}),
            json!({}),
        );
        eats["spec"]["restartPolicy"] = json!("Never");
        lab.apply(&[eats]);
        lab.until("it ends", || lab.get(&["pod", "eater"])["status"]["phase"] == "Failed");
        if !lab.log().contains("no control group holds pods to their limits") {
            // tests/cgroups.rs has the rest
            let ended = lab.get(&["pod", "eater"])["status"]["containerStatuses"][0]["state"]["terminated"].clone();
            assert_eq!(ended["reason"], "OOMKilled", "{ended}");
            return;
        }
        let said = lab.kubectl(&["logs", "eater"]);
        assert!(
            said.to_lowercase().contains("out of memory") && !said.contains("ate it"),
            "{said}"
        );
        lab.until("the limits are named that nothing holds it to", || {
            lab.get(&["pod", "eater"])["metadata"]["annotations"]["ztlab.dev/limits-not-enforced"] == "cpu,memory"
        });
    });
}
