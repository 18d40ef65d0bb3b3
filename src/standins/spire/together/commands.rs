//! The commands against a running server and agent: what they print.

use super::world::{World, settings};
use crate::cli::{Output, run_agent, run_server};

/// What a command printed: out, err, and whether it failed.
pub async fn printed(program: &str, args: &[&str]) -> (String, String, bool) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut output = Output {
        out: &mut out,
        err: &mut err,
    };
    let result = match program {
        "server" => run_server(&args, &mut output).await,
        _ => run_agent(&args, &mut output).await,
    };
    if let Err(error) = &result {
        use std::io::Write;
        writeln!(err, "{error}").unwrap();
    }
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
        result.is_err(),
    )
}

pub struct Server(pub String);

impl Server {
    pub async fn run(&self, command: &str) -> (String, String, bool) {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.extend(["-socketPath", &self.0]);
        printed("server", &args).await
    }

    pub async fn ok(&self, command: &str) -> String {
        let (out, err, failed) = self.run(command).await;
        assert!(!failed, "{command}: {err}");
        out
    }
}

#[tokio::test]
async fn entries_are_created_shown_counted_updated_and_deleted() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    assert_eq!(server.ok("healthcheck").await, "Server is healthy.\n");
    let create = "entry create -parentID spiffe://shop.test/node -spiffeID spiffe://shop.test/orders -selector k8s:ns:shop -selector k8s:sa:orders";
    let created = server.ok(create).await;
    let id = created.lines().next().unwrap().rsplit_once(": ").unwrap().1.to_owned();
    assert!(
        created.contains("SPIFFE ID               : spiffe://shop.test/orders\n"),
        "{created}"
    );
    assert_eq!(server.ok("entry show").await, format!("Found 1 entry\n{created}"));
    assert_eq!(server.ok("entry count").await, "1 registration entry\n");
    assert_eq!(
        server.ok("entry show -selector k8s:ns:other").await,
        "Found 0 entries\n"
    );
    let (_, err, failed) = server.run(create).await;
    assert!(
        failed && err.contains("(code: AlreadyExists, msg: \"similar entry already exists\")"),
        "{err}"
    );
    let updated = server
        .ok(&format!("entry update -entryID {id} -parentID spiffe://shop.test/node -spiffeID spiffe://shop.test/orders -selector k8s:ns:shop -x509SVIDTTL 60"))
        .await;
    assert!(
        updated.contains("Revision                : 1\n") && updated.contains("X509-SVID TTL           : 60\n"),
        "{updated}"
    );
    let deleted = server.ok(&format!("entry delete -entryID {id}")).await;
    assert!(
        deleted.starts_with(&format!("Deleted entry with ID: {id}\n")),
        "{deleted}"
    );
    let (_, err, failed) = server.run(&format!("entry delete -entryID {id}")).await;
    assert!(
        failed && err.contains("(code: NotFound, msg: \"entry not found\")"),
        "{err}"
    );
}

#[tokio::test]
async fn what_is_missing_is_said_before_the_server_is_asked() {
    let server = Server("/nowhere/api.sock".into());
    for (command, said) in [
        (
            "entry create -parentID spiffe://a.test/n -spiffeID spiffe://a.test/w",
            "at least one selector is required",
        ),
        (
            "entry create -spiffeID spiffe://a.test/w -selector a:b",
            "a parent ID is required if the node flag is not set",
        ),
        (
            "entry create -parentID spiffe://a.test/n -selector a:b",
            "a SPIFFE ID is required",
        ),
        (
            "agent ban -spiffeID spiffe://a.test/n -output yaml",
            "invalid value \"yaml\" for flag -output: bad formatter flag: unknown format option: \"yaml\"",
        ),
        ("federation refresh", "id is required"),
        ("entry create -foo", "flag provided but not defined: -foo"),
        (
            "entry create -parentID x -spiffeID spiffe://a.test/w -selector a:b",
            "spiffe",
        ),
        ("bundle set", "id flag is required"),
        (
            "jwt mint -spiffeID spiffe://a.test/w",
            "at least one audience must be specified",
        ),
        ("localauthority x509 taint", "an authority ID is required"),
        ("upstreamauthority taint", "no such command"),
        ("healthcheck", "server is unhealthy: unable to determine health"),
    ] {
        let (out, err, failed) = server.run(command).await;
        assert!(failed && format!("{out}{err}").contains(said), "{command}: {out}{err}");
    }
}

#[tokio::test]
async fn bundles_tokens_and_svids_are_printed() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let pem = server.ok("bundle show").await;
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    let json = server.ok("bundle show -format spiffe").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let uses: Vec<_> = json["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["use"].as_str().unwrap())
        .collect();
    assert_eq!(uses, ["x509-svid", "jwt-svid"]);
    let path = world.dir.path().join("foreign.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let set = format!(
        "bundle set -id spiffe://partner.test -format spiffe -path {}",
        path.display()
    );
    let (_, err, failed) = server.run(&set).await;
    assert!(
        failed || server.ok("bundle list").await.contains("partner.test"),
        "{err}"
    );
    let token = server.ok("token generate -spiffeID spiffe://shop.test/node").await;
    assert!(token.starts_with("Token: "), "{token}");
    let svid = server
        .ok("x509 mint -spiffeID spiffe://shop.test/minted -ttl 10m")
        .await;
    assert!(
        svid.contains("X509-SVID:\n-----BEGIN CERTIFICATE-----")
            && svid.contains("Private key:\n-----BEGIN PRIVATE KEY-----")
    );
    let token = server
        .ok("jwt mint -spiffeID spiffe://shop.test/minted -audience a")
        .await;
    assert_eq!(token.trim().split('.').count(), 3);
    let (_, err, failed) = server.run("x509 mint -spiffeID spiffe://other.test/minted").await;
    assert!(failed && err.contains("not a member of trust domain"), "{err}");
}

#[tokio::test]
async fn authorities_are_prepared_activated_tainted_and_revoked() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    for kind in ["x509", "jwt"] {
        let show = server.ok(&format!("localauthority {kind} show")).await;
        assert!(show.contains("  No prepared"), "{show}");
        let id = |text: &str| {
            text.lines()
                .nth(1)
                .unwrap()
                .trim()
                .strip_prefix("Authority ID: ")
                .unwrap()
                .to_owned()
        };
        let active = id(&show);
        let prepared = id(&server.ok(&format!("localauthority {kind} prepare")).await);
        let (_, err, failed) = server
            .run(&format!("localauthority {kind} taint -authorityID {active}"))
            .await;
        assert!(failed, "the one that signs cannot be tainted: {err}");
        server
            .ok(&format!("localauthority {kind} activate -authorityID {prepared}"))
            .await;
        server
            .ok(&format!("localauthority {kind} taint -authorityID {active}"))
            .await;
        server
            .ok(&format!("localauthority {kind} revoke -authorityID {active}"))
            .await;
        let show = server.ok(&format!("localauthority {kind} show")).await;
        assert_eq!(id(&show), prepared);
        assert!(show.contains("  No old"), "{show}");
    }
}

#[tokio::test]
async fn the_agents_commands_print_what_spires_do() {
    let world = World::with(settings(86_400, 3600)).await;
    // Commands verify by the machine's clock, which the world's does not show.
    let socket = world.socket().display().to_string();
    let agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    let (out, _, failed) = printed("agent", &["healthcheck", "-socketPath", &socket]).await;
    assert!(!failed && out == "Agent is healthy.\n", "{out}");
    let jwt = printed(
        "agent",
        &["api", "fetch", "jwt", "-audience", "a,b", "-socketPath", &socket],
    )
    .await;
    assert!(
        jwt.0.starts_with("token(spiffe://shop.test/orders):\n\t")
            && jwt.0.contains("bundle(spiffe://shop.test):\n\t{"),
        "{jwt:?}"
    );
    let token = jwt.0.lines().nth(1).unwrap().trim().to_owned();
    let valid = printed(
        "agent",
        &[
            "api",
            "validate",
            "jwt",
            "-audience",
            "a",
            "-svid",
            &token,
            "-socketPath",
            &socket,
        ],
    )
    .await;
    assert!(
        valid
            .0
            .starts_with("SVID is valid.\nSPIFFE ID : spiffe://shop.test/orders\nClaims    : {"),
        "{valid:?}"
    );
    let other = printed(
        "agent",
        &[
            "api",
            "validate",
            "jwt",
            "-audience",
            "c",
            "-svid",
            &token,
            "-socketPath",
            &socket,
        ],
    )
    .await;
    assert!(other.2 && other.1.starts_with("SVID is not valid: "), "{other:?}");
    world.workload.0.lock().unwrap().clear();
    let none = printed("agent", &["api", "fetch", "x509", "-socketPath", &socket]).await;
    assert_eq!(none.1, "rpc error: code = PermissionDenied desc = no identity issued\n");
    agent.abort();
    let listed = Server(world.admin().display().to_string()).ok("agent list").await;
    assert!(
        listed.starts_with(
            "Found 1 attested agent:\n\nSPIFFE ID         : spiffe://shop.test/spire/agent/join_token/t\n"
        ),
        "{listed}"
    );
}
