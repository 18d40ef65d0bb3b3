//! What the commands print with `-output json`.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use ztlab_identity::{JwtSvid, X509Svid};

use super::{
    commands::{Server, printed},
    world::{World, settings},
};

async fn json(server: &Server, command: &str) -> Value {
    let line = server.ok(&format!("{command} -output json")).await;
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
    serde_json::from_str(&line).unwrap()
}

/// The shapes are those that SPIRE 1.15.3 prints: protobuf's JSON with the names of the `.proto` files, nothing left out.
#[tokio::test]
async fn answers_are_printed_as_json_in_spires_shape() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let json = async |command: &str| json(&server, command).await;
    let create = "entry create -parentID spiffe://shop.test/node -spiffeID spiffe://shop.test/orders -selector k8s:ns:shop -x509SVIDTTL 60";
    let created = json(create).await;
    let id = created["results"][0]["entry"]["id"].as_str().unwrap().to_owned();
    assert_eq!(created["results"][0]["status"], json!({"code": 0, "message": "OK"}));
    let shown = json("entry show").await;
    let made = shown["entries"][0]["created_at"].as_str().unwrap();
    assert!(made.parse::<i64>().unwrap() > 0);
    let expected = json!({
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
    assert_eq!(json("entry count").await, json!({"count": 1}));
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
    assert_eq!(json("bundle list").await, json!({"bundles": [], "next_page_token": ""}));
    let agents = json("agent list").await;
    assert!(
        agents["agents"].is_array() && agents["next_page_token"] == "",
        "{agents}"
    );
    let states = json("localauthority x509 show").await;
    assert!(states["active"]["expires_at"].is_string(), "{states}");
    assert!(
        states.as_object().unwrap().keys().eq(["active"]),
        "SPIRE leaves out what is null: {states}"
    );
}

/// The bytes of base64.
fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_minted_is_printed_as_json() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let minted = &json(&server, "x509 mint -spiffeID spiffe://shop.test/minted").await[0];
    assert!(
        minted
            .as_object()
            .unwrap()
            .keys()
            .eq(["private_key", "root_cas", "x509_svid"]),
        "{minted}"
    );
    let svid = X509Svid::from_der(&bytes(&minted["x509_svid"][0]), &bytes(&minted["private_key"])).unwrap();
    assert_eq!(svid.id().to_string(), "spiffe://shop.test/minted");
    assert_eq!(
        bytes(&minted["root_cas"][0]),
        world.bundle().await.x509_authorities[0].asn1
    );
    let minted = json(&server, "jwt mint -spiffeID spiffe://shop.test/minted -audience a").await;
    let svid = &minted["svid"];
    assert_eq!(svid["id"], json!({"trust_domain": "shop.test", "path": "/minted"}));
    assert_eq!(svid["hint"], "");
    let token = JwtSvid::read_unverified(svid["token"].as_str().unwrap()).unwrap();
    assert_eq!(svid["expires_at"], token.expires().to_string());
    assert!(svid["issued_at"].as_str().unwrap().parse::<i64>().unwrap() > 0);
}

#[tokio::test]
async fn federation_is_printed_as_json() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let bundle = world.dir.path().join("partner.pem");
    std::fs::write(&bundle, server.ok("bundle show").await).unwrap();
    let web = "-trustDomain web.test -bundleEndpointURL https://web.test/bundle -bundleEndpointProfile https_web";
    let created = json(&server, &format!("federation create {web}")).await;
    let relationship =
        json!({"trust_domain": "web.test", "bundle_endpoint_url": "https://web.test/bundle", "https_web": {}});
    assert_eq!(
        created,
        json!({"results": [{"status": {"code": 0, "message": "OK"}, "federation_relationship": relationship}]})
    );
    // With JSON a refusal is in the answer, and the command has done what it was to do.
    let again = json(&server, &format!("federation create {web}")).await;
    assert_eq!(again["results"][0]["status"]["code"], 6);
    assert!(again["results"][0].get("federation_relationship").is_none(), "{again}");
    assert_eq!(
        json(&server, "federation show -trustDomain web.test").await,
        relationship
    );
    let spiffe = format!(
        "-trustDomain spiffe.test -bundleEndpointURL https://spiffe.test/b -bundleEndpointProfile https_spiffe \
         -endpointSpiffeID spiffe://spiffe.test/e -trustDomainBundlePath {}",
        bundle.display()
    );
    json(&server, &format!("federation create {spiffe}")).await;
    let shown = json(&server, "federation show -trustDomain spiffe.test").await;
    assert_eq!(
        shown["https_spiffe"],
        json!({"endpoint_spiffe_id": "spiffe://spiffe.test/e"})
    );
    assert!(shown.get("bundle_endpoint_profile").is_none(), "{shown}");
    assert_eq!(
        bytes(&shown["trust_domain_bundle"]["x509_authorities"][0]["asn1"]),
        world.bundle().await.x509_authorities[0].asn1
    );
    let listed = json(&server, "federation list").await;
    assert_eq!(listed["federation_relationships"], json!([shown, relationship]));
    assert_eq!(listed["next_page_token"], "");
    let updated = json(
        &server,
        &format!("federation update {}", web.replace("/bundle", "/moved")),
    )
    .await;
    assert_eq!(
        updated["results"][0]["federation_relationship"]["bundle_endpoint_url"],
        "https://web.test/moved"
    );
    let deleted = json(&server, "federation delete -id web.test").await;
    assert_eq!(
        deleted,
        json!({"results": [{"status": {"code": 0, "message": "OK"}, "trust_domain": "web.test"}]})
    );
    let (_, err, failed) = server.run("federation refresh -id spiffe.test -output json").await;
    assert!(
        failed && err.starts_with("failed to refresh bundle: rpc error: code = Unimplemented"),
        "{err}"
    );
}

#[tokio::test]
async fn changes_of_authorities_are_printed_as_json() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    for kind in ["x509", "jwt"] {
        let active = json(&server, &format!("localauthority {kind} show")).await["active"].clone();
        let active_id = active["authority_id"].as_str().unwrap();
        let prepared = json(&server, &format!("localauthority {kind} prepare")).await;
        let state = &prepared["prepared_authority"];
        assert!(
            state
                .as_object()
                .unwrap()
                .keys()
                .eq(["authority_id", "expires_at", "upstream_authority_subject_key_id"]),
            "{prepared}"
        );
        let id = state["authority_id"].as_str().unwrap();
        let command = |verb: &str, id: &str| format!("localauthority {kind} {verb} -authorityID {id}");
        let activated = json(&server, &command("activate", id)).await;
        assert_eq!(activated, json!({"activated_authority": state}));
        let tainted = json(&server, &command("taint", active_id)).await;
        assert_eq!(tainted["tainted_authority"]["authority_id"], active_id);
        let revoked = json(&server, &command("revoke", active_id)).await;
        assert_eq!(revoked["revoked_authority"]["authority_id"], active_id);
        let (_, err, failed) = server.run(&command("revoke", active_id)).await;
        let title = if kind == "x509" { "X.509" } else { "JWT" };
        let said = format!("could not revoke {title} authority: rpc error: code = ");
        assert!(failed && err.starts_with(&said), "{err}");
    }
}

#[tokio::test]
async fn an_agent_is_banned_and_evicted_and_a_token_validated_with_json() {
    let world = World::with(settings(86_400, 3600)).await;
    let server = Server(world.admin().display().to_string());
    let socket = world.socket().display().to_string();
    let agent = world.agent().await;
    world.entry("/orders").await;
    world.svids().await;
    let minted = json(&server, "jwt mint -spiffeID spiffe://shop.test/minted -audience a").await;
    let token = minted["svid"]["token"].as_str().unwrap();
    let validate = [
        "api",
        "validate",
        "jwt",
        "-audience",
        "a",
        "-output",
        "json",
        "-socketPath",
        &socket,
        "-svid",
        token,
    ];
    let (out, err, failed) = printed("agent", &validate).await;
    assert!(!failed, "{err}");
    let valid: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(valid["spiffe_id"], "spiffe://shop.test/minted");
    assert_eq!(valid["claims"]["sub"], "spiffe://shop.test/minted");
    assert_eq!(
        valid["claims"]["exp"].to_string(),
        minted["svid"]["expires_at"].as_str().unwrap()
    );
    let id = "spiffe://shop.test/spire/agent/join_token/t";
    assert_eq!(json(&server, &format!("agent ban -spiffeID {id}")).await, json!({}));
    assert_eq!(json(&server, "agent list").await["agents"][0]["banned"], true);
    assert_eq!(json(&server, &format!("agent evict -spiffeID {id}")).await, json!({}));
    assert_eq!(json(&server, "agent count").await, json!({"count": 0}));
    agent.abort();
}
