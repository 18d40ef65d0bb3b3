//! The commands against a running server and agent: what they print.

use super::world::{World, settings};
use crate::cli::{Output, run_agent, run_server};

/// What a command printed: out, err, and whether it failed.
async fn printed(program: &str, args: &[&str]) -> (String, String, bool) {
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

struct Server(String);

impl Server {
    async fn run(&self, command: &str) -> (String, String, bool) {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.extend(["-socketPath", &self.0]);
        printed("server", &args).await
    }

    async fn ok(&self, command: &str) -> String {
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

/// The shapes are those that SPIRE 1.15.3 prints: protobuf's JSON with the names of the `.proto` files, nothing left out.
#[tokio::test]
async fn answers_are_printed_as_json_in_spires_shape() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let json = async |command: &str| -> serde_json::Value {
        let line = server.ok(&format!("{command} -output json")).await;
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
        serde_json::from_str(&line).unwrap()
    };
    let create = "entry create -parentID spiffe://shop.test/node -spiffeID spiffe://shop.test/orders -selector k8s:ns:shop -x509SVIDTTL 60";
    let created = json(create).await;
    let id = created["results"][0]["entry"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        created["results"][0]["status"],
        serde_json::json!({"code": 0, "message": "OK"})
    );
    let shown = json("entry show").await;
    let made = shown["entries"][0]["created_at"].as_str().unwrap();
    assert!(made.parse::<i64>().unwrap() > 0);
    let expected = serde_json::json!({
        "entries": [{
            "id": id,
            "spiffe_id": {"trust_domain": "shop.test", "path": "/orders"},
            "parent_id": {"trust_domain": "shop.test", "path": "/node"},
            "selectors": [{"type": "k8s", "value": "ns:shop"}],
            "x509_svid_ttl": 60, "jwt_svid_ttl": 0, "federates_with": [], "admin": false, "downstream": false,
            "expires_at": "0", "dns_names": [], "revision_number": "0", "store_svid": false, "hint": "",
            "created_at": made,
        }],
        "next_page_token": "",
    });
    assert_eq!(shown, expected);
    assert_eq!(json("entry count").await, serde_json::json!({"count": 1}));
    let bundle = json("bundle show").await;
    assert_eq!(bundle["trust_domain"], "shop.test");
    assert!(
        bundle["refresh_hint"].is_string() && bundle["sequence_number"].is_string(),
        "{bundle}"
    );
    let authority = &bundle["x509_authorities"][0];
    assert_eq!(authority["tainted"], false);
    // What the two formats say is the same certificate.
    let pem = server.ok("bundle show").await;
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    assert_eq!(authority["asn1"].as_str().unwrap(), lines);
    assert_eq!(
        json("bundle list").await,
        serde_json::json!({"bundles": [], "next_page_token": ""})
    );
    let agents = json("agent list").await;
    assert!(
        agents["agents"].is_array() && agents["next_page_token"] == "",
        "{agents}"
    );
    let states = json("localauthority x509 show").await;
    assert!(states["active"]["expires_at"].is_string(), "{states}");
    assert!(states["old"].is_null(), "{states}");
    for (command, why) in [
        ("entry show -output yaml", "unknown format option"),
        ("federation list -output json", "`-output pretty` only"),
    ] {
        let (_, err, failed) = server.run(command).await;
        assert!(failed && err.contains(why), "{command}: {err}");
    }
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
