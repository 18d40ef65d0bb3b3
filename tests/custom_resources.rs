//! Custom resources under the real, unmodified kubectl, and under kube's dynamic client.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "common/api.rs"]
mod api;

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::Discovery,
    runtime::watcher,
};
use serde_json::json;

use api::{Cluster, contains};

const CRON_TABS: &str = include_str!("custom_resources/crontabs.yaml");
const SPIFFE_IDS: &str = include_str!("custom_resources/clusterspiffeids.yaml");

const CRON_TAB: &str = "
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: nightly}
spec:
  cronSpec: '* * * * */5'
  image: my-image
  ports:
  - {name: http, port: 80}
  - {name: admin, port: 81}
";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A cluster with the definition of CronTabs.
fn with_cron_tabs() -> Option<Cluster> {
    let cluster = Cluster::start()?;
    assert_eq!(
        cluster.ok_with("apply -f -", Some(CRON_TABS)),
        "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created"
    );
    Some(cluster)
}

#[test]
fn a_kind_is_there_once_its_definition_is() {
    let Some(cluster) = Cluster::start() else { return };
    contains(
        &cluster.fails("apply -f -", Some(CRON_TAB)),
        "ensure CRDs are installed first",
    );
    assert_eq!(
        cluster.ok_with("create -f -", Some(CRON_TABS)),
        "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created"
    );
    assert_eq!(
        cluster.ok("wait --for condition=Established crd/crontabs.stable.example.com --timeout=60s"),
        "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com condition met"
    );
    assert_eq!(
        cluster.ok("get crd crontabs.stable.example.com -o jsonpath='{.status.acceptedNames.singular} {.status.storedVersions}'"),
        "crontab [\"v1\"]"
    );
    contains(&cluster.ok("get crd"), "CREATED AT");
    let resources = cluster.ok("api-resources");
    let line = resources.lines().find(|line| line.starts_with("crontabs")).unwrap();
    assert_eq!(
        words(line),
        ["crontabs", "ct", "stable.example.com/v1", "true", "CronTab"]
    );
    contains(&cluster.ok("api-versions"), "stable.example.com/v1beta1");
    assert_eq!(
        cluster.ok_with("apply -f -", Some(CRON_TAB)),
        "crontab.stable.example.com/nightly created"
    );
    assert_eq!(
        cluster.ok_with("apply -f -", Some(CRON_TAB)),
        "crontab.stable.example.com/nightly unchanged"
    );
    for name in [
        "crontabs",
        "crontab",
        "ct",
        "CronTab",
        "crontabs.v1.stable.example.com",
        "ct/nightly",
    ] {
        contains(&cluster.ok(&format!("get {name}")), "nightly");
    }
    contains(&cluster.ok("get all"), "crontab.stable.example.com/nightly");
    // The schema's defaults are there.
    assert_eq!(
        cluster.ok("get ct nightly -o jsonpath='{.spec.replicas} {.metadata.generation}'"),
        "1 1"
    );
    let described = cluster.ok("describe ct nightly");
    contains(&described, "Cron Spec:  * * * * */5");
}

#[test]
fn columns_are_those_of_the_definition() {
    let Some(cluster) = with_cron_tabs() else { return };
    cluster.ok_with("apply -f -", Some(CRON_TAB));
    let table = cluster.ok("get ct");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(words(lines[0]), ["NAME", "SPEC", "REPLICAS", "READY", "AGE"], "{table}");
    contains(lines[1], "nightly   * * * * */5   1");
    contains(&cluster.ok("get ct -o wide"), "IMAGE");
    contains(&cluster.ok("get ct -o wide"), "my-image");
    cluster.ok(r#"patch ct nightly --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'"#);
    contains(&cluster.ok("get ct"), "True");
    cluster.ok("wait --for=condition=Ready ct/nightly --timeout=60s");
    // The other version has no columns of its own.
    assert_eq!(
        words(
            cluster
                .ok("get crontabs.v1beta1.stable.example.com")
                .lines()
                .next()
                .unwrap()
        ),
        ["NAME", "AGE"]
    );
}

#[test]
fn what_the_schema_does_not_allow_is_refused() {
    let Some(cluster) = with_cron_tabs() else { return };
    for (from, to, expected) in [
        (
            "image:",
            "imagee:",
            "strict decoding error: unknown field \"spec.imagee\"",
        ),
        (
            "name: http, port",
            "name: http, prt",
            "strict decoding error: unknown field \"spec.ports[0].prt\"",
        ),
        (
            "name: nightly",
            "name: nightly, label: {}",
            "unknown field \"metadata.label\"",
        ),
        (
            "'* * * * */5'",
            "'* * * *'",
            "spec.cronSpec: Invalid value: \"* * * *\": spec.cronSpec in body should match '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$'",
        ),
        (
            "image: my-image",
            "replicas: 15",
            "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10",
        ),
        (
            "image: my-image",
            "replicas: many",
            "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
        ),
        (
            "name: admin",
            "name: http",
            "spec.ports[1]: Duplicate value: {\"name\":\"http\"}",
        ),
        ("  cronSpec: '* * * * */5'\n", "", "spec.cronSpec: Required value"),
    ] {
        let text = CRON_TAB.replace(from, to);
        assert_ne!(text, CRON_TAB, "{from}");
        contains(&cluster.fails("apply -f -", Some(&text)), expected);
    }
    // Without strictness the typo is told, and dropped.
    let typo = CRON_TAB.replace("image:", "imagee:");
    let warned = cluster.run("apply --validate=warn -f -", Some(&typo));
    assert!(warned.status.success());
    contains(
        &String::from_utf8_lossy(&warned.stderr),
        "Warning: unknown field \"spec.imagee\"",
    );
    assert_eq!(cluster.ok("get ct nightly -o jsonpath='{.spec.imagee}'"), "");
    // A definition's own typos.
    let typo = CRON_TABS.replace("description: When", "descripton: When");
    contains(
        &cluster.fails("apply -f -", Some(&typo)),
        "strict decoding error: unknown field \"spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.cronSpec.descripton\"",
    );
}

#[test]
fn custom_objects_are_explained_patched_and_edited() {
    let Some(cluster) = with_cron_tabs() else { return };
    cluster.ok_with("apply -f -", Some(CRON_TAB));
    let explained = cluster.ok("explain ct.spec");
    contains(&explained, "GROUP:      stable.example.com");
    contains(&explained, "When to run");
    contains(&cluster.ok("explain ct --recursive"), "cronSpec");
    contains(&cluster.ok("explain ct.metadata.labels"), "map[string]string");
    contains(
        &cluster.fails(r#"patch ct nightly -p '{"spec":{"image":"x"}}'"#, None),
        "application/strategic-merge-patch+json is not supported by stable.example.com/v1, Kind=CronTab: the body of the request was in an unknown format",
    );
    assert_eq!(
        cluster.ok(r#"patch ct nightly --type=merge -p '{"spec":{"image":"x"}}'"#),
        "crontab.stable.example.com/nightly patched"
    );
    cluster.ok(r#"patch ct nightly --type=json -p '[{"op":"replace","path":"/spec/image","value":"nginx"}]'"#);
    cluster.ok("label ct nightly tier=back");
    // Labels and status count no generation.
    assert_eq!(
        cluster.ok("get ct nightly -o jsonpath='{.spec.image} {.metadata.generation}'"),
        "nginx 3"
    );
    let edited = cluster
        .command("edit ct nightly")
        .env("KUBE_EDITOR", "sed -i s/nginx/caddy/")
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert_eq!(cluster.ok("get ct nightly -o jsonpath='{.spec.image}'"), "caddy");
    assert_eq!(
        cluster.ok("scale ct nightly --replicas=3"),
        "crontab.stable.example.com/nightly scaled"
    );
    assert_eq!(cluster.ok("get ct nightly -o jsonpath='{.spec.replicas}'"), "3");
    contains(
        &cluster.fails("scale ct nightly --replicas=30", None),
        "should be less than or equal to 10",
    );
    // Applying again without the image takes it away.
    cluster.ok_with("apply -f -", Some(CRON_TAB));
    cluster.ok_with("apply -f -", Some(&CRON_TAB.replace("  image: my-image\n", "")));
    assert_eq!(cluster.ok("get ct nightly -o jsonpath='{.spec.image}'"), "");
    assert_eq!(cluster.run("diff -f -", Some(CRON_TAB)).status.code(), Some(1));
    assert_eq!(cluster.ok("get ct --field-selector spec.image=my-image -o name"), "");
    cluster.ok_with("apply -f -", Some(CRON_TAB));
    assert_eq!(
        cluster.ok("get ct --field-selector spec.image=my-image -o name"),
        "crontab.stable.example.com/nightly"
    );
    contains(
        &cluster.fails("get ct --field-selector spec.cronSpec=x", None),
        "field label not supported: spec.cronSpec",
    );
}

#[test]
fn server_side_apply_merges_by_the_schemas_keys() {
    let Some(cluster) = with_cron_tabs() else { return };
    let ports = |text: &str| CRON_TAB.replace("  - {name: http, port: 80}\n  - {name: admin, port: 81}\n", text);
    let apply = |manager: &str, text: &str| {
        cluster.ok_with(
            &format!("apply --server-side --field-manager={manager} -f -"),
            Some(text),
        )
    };
    apply("one", &ports("  - {name: http, port: 80}\n"));
    apply("two", &ports("  - {name: admin, port: 81}\n"));
    let names = || cluster.ok("get ct nightly -o jsonpath='{.spec.ports[*].name}'");
    assert_eq!(names(), "http admin");
    let conflict = cluster.fails(
        "apply --server-side --field-manager=two -f -",
        Some(&ports("  - {name: http, port: 90}\n")),
    );
    contains(&conflict, "conflict with \"one\": .spec.ports[name=\"http\"].port");
    apply("two", CRON_TAB.split("  ports:").next().unwrap());
    assert_eq!(names(), "http");
}

#[test]
fn versions_are_views_of_one_object() {
    let Some(cluster) = with_cron_tabs() else { return };
    let old = CRON_TAB.replace("stable.example.com/v1", "stable.example.com/v1beta1");
    let made = cluster.run("create -f -", Some(&old));
    contains(
        &String::from_utf8_lossy(&made.stderr),
        "Warning: stable.example.com/v1beta1 CronTab is deprecated",
    );
    assert_eq!(
        cluster.ok("get ct nightly -o jsonpath='{.apiVersion}'"),
        "stable.example.com/v1"
    );
    assert_eq!(
        cluster.ok("get crontabs.v1beta1.stable.example.com nightly -o jsonpath='{.apiVersion}'"),
        "stable.example.com/v1beta1"
    );
    // A version that is no longer served is gone at once; one that objects may be stored in stays in the definition.
    cluster.ok_with(
        "apply -f -",
        Some(&CRON_TABS.replace("served: true # old", "served: false")),
    );
    contains(
        &cluster.fails("get --raw /apis/stable.example.com/v1beta1/crontabs", None),
        "the server could not find the requested resource",
    );
}

#[test]
fn objects_go_with_their_definition_and_watches_end() {
    let Some(cluster) = with_cron_tabs() else { return };
    cluster.ok_with("apply -f -", Some(CRON_TAB));
    cluster.ok_with("create ns other -o name", None);
    cluster.ok_with("apply -n other -f -", Some(CRON_TAB));
    let mut watching = cluster
        .command("get ct -A -w --output-watch-events")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let begun = lines
        .by_ref()
        .filter(|line| line.as_ref().unwrap().starts_with("ADDED"))
        .take(2);
    assert_eq!(begun.count(), 2);
    cluster.ok("patch ct nightly --type=merge -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'");
    cluster.ok("delete crd crontabs.stable.example.com --wait=false");
    assert_eq!(
        cluster.ok(
            "get crd crontabs.stable.example.com -o jsonpath='{.status.conditions[?(@.type==\"Terminating\")].status}'"
        ),
        "True"
    );
    let name = CRON_TAB.replace("nightly", "late");
    contains(
        &cluster.fails("create -f -", Some(&name)),
        "create not allowed while custom resource definition is terminating",
    );
    assert_eq!(cluster.ok("get ct -A -o name"), "crontab.stable.example.com/nightly");
    cluster.ok("patch ct nightly --type=merge -p '{\"metadata\":{\"finalizers\":null}}'");
    cluster.ok("wait --for=delete crd/crontabs.stable.example.com --timeout=60s");
    contains(
        &cluster.fails("get ct", None),
        "the server could not find the requested resource",
    );
    let deleted = lines
        .filter(|line| line.as_ref().unwrap().starts_with("DELETED"))
        .count();
    assert_eq!(deleted, 2);
    watching.wait().unwrap();
    // The same name can be defined again, and has no objects.
    cluster.ok_with("create -f -", Some(CRON_TABS));
    assert_eq!(cluster.ok("get ct -A -o name"), "");
}

#[test]
fn a_large_definition_of_the_field() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok_with("apply -f -", Some(SPIFFE_IDS));
    let id = "
apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterSPIFFEID
metadata: {name: shop}
spec:
  spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}'
  podSelector:
    matchLabels: {app: shop}
    matchExpressions: [{key: tier, operator: In, values: [a, b]}]
  ttl: 1h30m
  federatesWith: [partner.example]
";
    assert_eq!(
        cluster.ok_with("apply -f -", Some(id)),
        "clusterspiffeid.spire.spiffe.io/shop created"
    );
    assert_eq!(
        cluster.ok_with("apply -f -", Some(id)),
        "clusterspiffeid.spire.spiffe.io/shop unchanged"
    );
    contains(&cluster.ok("get clusterspiffeids"), "NAME");
    cluster.ok(r#"patch clusterspiffeid shop --subresource=status --type=merge -p '{"status":{"stats":{"podsSelected":3,"entriesToSet":3}}}'"#);
    contains(&cluster.ok("get clusterspiffeids -o wide"), "3");
    for (from, to, expected) in [
        ("operator: In", "operator: Within", "Unsupported value: \"Within\""),
        (
            "spiffeIDTemplate",
            "spiffeIdTemplate",
            "unknown field \"spec.spiffeIdTemplate\"",
        ),
        ("podSelector", "podSelectors", "unknown field \"spec.podSelectors\""),
        ("ttl: 1h30m", "ttl: soon", "spec.ttl in body must be of type duration"),
        (
            "[partner.example]",
            "[a.example, a.example]",
            "spec.federatesWith[1]: Duplicate value: \"a.example\"",
        ),
    ] {
        contains(&cluster.fails("apply -f -", Some(&id.replace(from, to))), expected);
    }
    contains(
        &cluster.ok("explain clusterspiffeid.spec.podSelector.matchExpressions"),
        "operator",
    );
}

#[test]
fn kubes_dynamic_client_and_watcher_know_them() {
    let Some(cluster) = with_cron_tabs() else { return };
    let client = cluster.client();
    cluster.runtime.block_on(async {
        let discovery = Discovery::new(client.clone()).run().await.unwrap();
        let wanted = GroupVersionKind::gvk("stable.example.com", "v1", "CronTab");
        let (resource, capabilities) = discovery.resolve_gvk(&wanted).unwrap();
        assert_eq!(resource, ApiResource::from_gvk_with_plural(&wanted, "crontabs"));
        assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "status"));
        let api: Api<DynamicObject> = Api::default_namespaced_with(client, &resource);
        let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
        let object = |name: &str| DynamicObject::new(name, &resource).data(json!({"spec": {"cronSpec": "1 1 1 1 1"}}));
        api.create(&PostParams::default(), &object("a")).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match events.try_next().await.unwrap().unwrap() {
                watcher::Event::Init | watcher::Event::InitDone => {}
                watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                    seen.push(object.data["spec"]["replicas"].clone());
                    if seen.len() == 1 {
                        let patch = json!({"spec": {"replicas": 4}});
                        api.patch("a", &PatchParams::default(), &Patch::Merge(&patch))
                            .await
                            .unwrap();
                    } else {
                        api.delete("a", &DeleteParams::default()).await.unwrap();
                    }
                }
                watcher::Event::Delete(object) => seen.push(json!(object.name_any())),
            }
        }
        assert_eq!(json!(seen), json!([1, 4, "a"]));
        assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
        let wrong = DynamicObject::new("b", &resource).data(json!({"spec": {}}));
        let Err(kube::Error::Api(status)) = api.create(&PostParams::default(), &wrong).await else {
            panic!("a CronTab without a cronSpec")
        };
        assert_eq!(status.code, 422);
        assert_eq!(status.details.unwrap().causes[0].field, "spec.cronSpec");
    });
}
