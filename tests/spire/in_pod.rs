//! Programs of others' making in a pod, against the agent's socket as the CSI driver mounts it there.

use std::{fs::File, path::PathBuf};

use serde_json::{Value, json};

use super::{Lab, shell, text};

const SOCKET: &str = "unix:///spiffe-workload-api/spire-agent.sock";

/// go-spiffe, and a client of Envoy's secret discovery, where the machine has Go (`scripts/setup.sh test` builds them).
fn peers() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &str| {
        let programs = std::env::split_paths(&path).map(|dir| dir.join(name));
        programs.into_iter().find(|program| program.is_file())
    };
    let found = on_path("spiffe-peers");
    if found.is_none() {
        let unfetched = on_path("spiffe-peers.unfetched").is_some();
        let could = std::env::var("CI").as_deref() == Ok("true") && on_path("go").is_some() && !unfetched;
        assert!(
            !could,
            "CI has go, and so must have spiffe-peers: scripts/setup.sh test"
        );
        eprintln!("SKIPPED: this machine lacks spiffe-peers");
    }
    found
}

/// The pod `name`, which is `id`, has its SVID and its secrets.
pub fn clients_of_others_making(lab: &Lab, name: &str, id: &str) {
    let Some(program) = peers() else { return };
    let mut copy = lab.command("kubectl");
    copy.args(["exec", "-i", "-n", "shop", name, "--", "sh", "-c"]);
    copy.arg("cat >/tmp/peers && chmod +x /tmp/peers");
    let copied = copy.stdin(File::open(program).unwrap()).output().unwrap();
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    let ask = |command: &str| -> Value {
        let (answered, said) = shell(lab, name, &format!("/tmp/peers go-spiffe {command}"));
        assert!(answered, "{command}: {said}");
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{command}: {said}"))
    };
    let x509 = ask(&format!("x509 {SOCKET}"));
    assert_eq!(x509["svids"], json!([{"id": id, "hint": "", "chain": 1}]), "{x509}");
    let secrets = ask(&format!("sds {SOCKET} {id} spiffe://ztlab.example"));
    assert_eq!(secrets, json!({"secrets": ["spiffe://ztlab.example", id]}));
    let (answered, said) = shell(
        lab,
        name,
        &format!("/tmp/peers go-spiffe sds {SOCKET} spiffe://ztlab.example/another"),
    );
    assert!(
        !answered && said.contains("InvalidArgument"),
        "a secret of another's: {said}"
    );
}
