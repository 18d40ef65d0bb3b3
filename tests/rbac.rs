//! Access to the API server under the real, unmodified kubectl: roles, bindings, impersonation, tokens.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "common/api.rs"]
mod api;

use api::{Cluster, contains};
use serde_json::json;

#[track_caller]
fn can(cluster: &Cluster, expected: &str, args: &str) {
    let output = cluster.run(&format!("auth can-i {args}"), None);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().next(), Some(expected), "auth can-i {args}: {output:?}");
    assert_eq!(output.status.success(), expected == "yes", "auth can-i {args}");
}

#[test]
fn a_user_may_do_what_a_role_says_and_no_more() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &["devs"]);
    assert_eq!(
        cluster.fails(&format!("get pods -n default {jane}"), None),
        "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    assert_eq!(
        cluster.fails(&format!("get nodes {jane}"), None),
        "Error from server (Forbidden): nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the \
         cluster scope"
    );
    assert_eq!(
        cluster.fails(&format!("get deploy web {jane}"), None),
        "Error from server (Forbidden): deployments.apps \"web\" is forbidden: User \"jane\" cannot get resource \"deployments\" in \
         API group \"apps\" in the namespace \"default\""
    );
    contains(
        &cluster.fails(&format!("get --raw /metrics {jane}"), None),
        "forbidden: User \"jane\" cannot get path \"/metrics\"",
    );
    // Whether there is such a resource is nobody's business who may not ask for it.
    contains(
        &cluster.fails(&format!("get --raw /apis/example.com/v1/secrets {jane}"), None),
        "secrets.example.com is forbidden",
    );
    contains(
        &cluster.fails("get --raw /apis/example.com/v1/secrets", None),
        "the server could not find the requested resource",
    );
    cluster.ok("create role reader --verb=get,list,watch --resource=pods,pods/log");
    cluster.ok("create rolebinding readers --role=reader --group=devs");
    cluster.ok(&format!("get pods {jane}"));
    can(&cluster, "yes", &format!("list pods {jane}"));
    can(&cluster, "yes", &format!("get pods --subresource=log {jane}"));
    can(&cluster, "no", &format!("get pods --subresource=status {jane}"));
    can(&cluster, "no", &format!("create pods --subresource=exec {jane}"));
    can(&cluster, "no", &format!("list pods -n kube-system {jane}"));
    can(&cluster, "no", &format!("list pods -A {jane}"));
    can(&cluster, "no", &format!("delete pods {jane}"));
    can(&cluster, "no", &format!("get /metrics {jane}"));
    can(&cluster, "yes", &format!("get /version {jane}"));
    can(&cluster, "yes", "'*' '*'");
    let list = cluster.ok(&format!("auth can-i --list {jane}"));
    contains(&list, "pods/log");
    contains(&list, "selfsubjectaccessreviews.authorization.k8s.io");
    contains(&list, "[/healthz]");
    cluster.ok("delete rolebinding readers");
    can(&cluster, "no", &format!("list pods {jane}"));
}

#[test]
fn names_limit_what_a_rule_is_about() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &[]);
    for name in ["a", "b"] {
        cluster.ok(&format!("create cm {name}"));
    }
    cluster.ok("create role one --verb=get,list,watch,update --resource=configmaps --resource-name=a");
    cluster.ok("create rolebinding one --role=one --user=jane");
    cluster.ok(&format!("get cm a {jane}"));
    contains(
        &cluster.fails(&format!("get cm b {jane}"), None),
        "configmaps \"b\" is forbidden",
    );
    contains(
        &cluster.fails(&format!("get cm {jane}"), None),
        "configmaps is forbidden",
    );
    assert_eq!(
        cluster.ok(&format!("get cm --field-selector=metadata.name=a -o name {jane}")),
        "configmap/a"
    );
    // A new object's name is in its body: no selector stands for it.
    cluster.ok("create role makes --verb=create,deletecollection --resource=configmaps --resource-name=a");
    cluster.ok("create rolebinding makes --role=makes --user=jane");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#;
    let path = "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Da";
    for verb in ["create", "delete"] {
        contains(
            &cluster.fails(&format!("{verb} --raw {path} -f - {jane}"), Some(body)),
            "configmaps is forbidden",
        );
    }
    can(&cluster, "yes", &format!("update cm/a {jane}"));
    can(&cluster, "no", &format!("update cm/b {jane}"));
    // A namespace is in itself.
    cluster.ok("create clusterrole own --verb=get --resource=namespaces");
    cluster.ok("create rolebinding own --clusterrole=own --user=jane -n kube-public");
    cluster.ok(&format!("get ns kube-public {jane}"));
    contains(
        &cluster.fails(&format!("get ns default {jane}"), None),
        "namespaces \"default\" is forbidden: User \"jane\" cannot get resource \"namespaces\" in API group \"\" in the namespace \
         \"default\"",
    );
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &[]);
    cluster.ok("create rolebinding admins --clusterrole=admin --user=jane");
    // An admin of a namespace hands out what an admin has.
    cluster.ok(&format!("create role reader --verb=get,list --resource=pods {jane}"));
    cluster.ok(&format!("create rolebinding readers --role=reader --user=joe {jane}"));
    cluster.ok(&format!(
        "create rolebinding viewers --clusterrole=view --user=joe {jane}"
    ));
    let refused = cluster.fails(
        &format!("create role nodes --verb=get,list --resource=nodes {jane}"),
        None,
    );
    contains(
        &refused,
        "roles.rbac.authorization.k8s.io \"nodes\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to \
         grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}",
    );
    contains(
        &cluster.fails(
            &format!("create rolebinding all --clusterrole=cluster-admin --user=jane {jane}"),
            None,
        ),
        "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}",
    );
    let patch = r#"[{"op":"add","path":"/rules/0/resources/-","value":"nodes"}]"#;
    contains(
        &cluster.fails(&format!("patch role reader --type=json -p '{patch}' {jane}"), None),
        "is attempting to grant RBAC permissions not currently held",
    );
    contains(
        &cluster.fails(
            &format!("create rolebinding none --clusterrole=nothing --user=joe {jane}"),
            None,
        ),
        "clusterroles.rbac.authorization.k8s.io \"nothing\" not found",
    );
    // A label may make others gather what the role says; what the garbage collector writes may not.
    cluster.ok("create role nodes --verb=get --resource=nodes");
    contains(
        &cluster.fails(&format!("label role nodes a=b {jane}"), None),
        "is attempting to grant RBAC permissions not currently held",
    );
    let finalizer = r#"{"metadata":{"finalizers":["example.com/f"]}}"#;
    cluster.ok(&format!("patch role nodes --type=merge -p '{finalizer}' {jane}"));
    // `escalate` and `bind` are for those who may.
    cluster.ok("create role may --verb=escalate,bind --resource=roles.rbac.authorization.k8s.io");
    cluster.ok("create rolebinding may --role=may --user=jane");
    cluster.ok(&format!("create role more --verb=get --resource=nodes {jane}"));
    cluster.ok(&format!("create rolebinding more --role=more --user=joe {jane}"));
    let aggregated = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: gather}\naggregationRule:\n  \
                      clusterRoleSelectors: [{matchLabels: {a: b}}]\n";
    cluster.ok("create clusterrole roles --verb='*' --resource=clusterroles.rbac.authorization.k8s.io");
    cluster.ok("create clusterrolebinding roles --clusterrole=roles --user=mike");
    let mike = cluster.user("mike", &[]);
    // `*` on ClusterRoles has `escalate` in it.
    cluster.ok_with(&format!("create -f - {mike}"), Some(aggregated));
    cluster.ok("create clusterrole creates --verb=create,get --resource=clusterroles.rbac.authorization.k8s.io");
    cluster.ok("create clusterrolebinding creates --clusterrole=creates --user=nick");
    let nick = cluster.user("nick", &[]);
    contains(
        &cluster.fails(
            &format!("create -f - {nick}"),
            Some(&aggregated.replace("gather", "gather2")),
        ),
        "must have cluster-admin privileges to use an aggregationRule",
    );
    cluster.ok("create clusterrole patches --verb=patch,get --resource=clusterroles.rbac.authorization.k8s.io");
    cluster.ok("create clusterrolebinding patches --clusterrole=patches --user=nick");
    contains(
        &cluster.fails(
            &format!("label clusterrole cluster-admin rbac.authorization.k8s.io/aggregate-to-view=true {nick}"),
            None,
        ),
        "is attempting to grant RBAC permissions not currently held",
    );
    contains(
        &cluster.fails(
            &format!("patch clusterrole gather --type=merge -p '{{\"aggregationRule\":null}}' {nick}"),
            None,
        ),
        "must have cluster-admin privileges to use an aggregationRule",
    );
}

#[test]
fn impersonation_needs_its_own_right() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &[]);
    // Without what it learned before, kubectl says no more than "unknown" of a refused discovery.
    cluster.ok(&format!("api-resources {jane}"));
    contains(
        &cluster.fails(&format!("get pods --as=joe {jane}"), None),
        "users \"joe\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
    );
    cluster.ok("create clusterrole as-joe --verb=impersonate --resource=users --resource-name=joe");
    cluster.ok("create clusterrolebinding as-joe --clusterrole=as-joe --user=jane");
    contains(&cluster.ok(&format!("auth whoami --as=joe {jane}")), "joe");
    contains(
        &cluster.fails(&format!("get pods --as=joe --as-group=system:masters {jane}"), None),
        "groups \"system:masters\" is forbidden: User \"jane\" cannot impersonate resource \"groups\"",
    );
    contains(
        &cluster.fails("get pods --as=joe", None),
        "User \"joe\" cannot list resource \"pods\"",
    );
    let account = cluster.ok("auth whoami --as=system:serviceaccount:shop:robot -o yaml");
    contains(&account, "system:serviceaccounts:shop");
    can(&cluster, "no", "list secrets --as=joe");
    can(&cluster, "yes", "list secrets --as=joe --as-group=system:masters");
    // Who has shown nothing may not even ask who they are, until somebody lets them.
    let nobody = "auth whoami --as=system:anonymous -o yaml";
    contains(&cluster.fails(nobody, None), "you do not have permission to call it");
    cluster.ok("create clusterrolebinding ask --clusterrole=system:basic-user --group=system:unauthenticated");
    let groups = cluster.ok(nobody);
    contains(&groups, "system:unauthenticated");
    assert!(!groups.contains("system:authenticated"), "{groups}");
}

#[test]
fn anonymous_users_see_what_is_public_and_bad_tokens_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    let bad = cluster.credentials("bad", json!({"token": "a.b.c"}));
    for path in ["/healthz", "/version", "/api/v1/pods"] {
        contains(
            &cluster.fails(&format!("get --raw {path} {bad}"), None),
            "You must be logged in to the server",
        );
    }
    let nobody = cluster.credentials("nobody", json!({"username": "x", "password": "y"}));
    assert_eq!(cluster.ok(&format!("get --raw /healthz {nobody}")), "ok");
    contains(&cluster.ok(&format!("get --raw /version {nobody}")), "gitVersion");
    contains(
        &cluster.fails(&format!("get --raw /api {nobody}"), None),
        "forbidden: User \"system:anonymous\" cannot get path \"/api\"",
    );
}

#[test]
fn a_service_account_has_what_it_was_given() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok("create ns shop");
    cluster.ok("create sa robot -n shop");
    let token = cluster.ok("create token robot -n shop");
    let robot = cluster.credentials("robot", json!({"token": token}));
    contains(
        &cluster.fails(&format!("get pods -n shop {robot}"), None),
        "User \"system:serviceaccount:shop:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"shop\"",
    );
    cluster.ok("create rolebinding views --clusterrole=view --serviceaccount=shop:robot -n shop");
    cluster.ok(&format!("get pods -n shop {robot}"));
    can(&cluster, "no", &format!("get secrets -n shop {robot}"));
    contains(
        &cluster.ok("auth can-i list pods -n shop --as=system:serviceaccount:shop:robot"),
        "yes",
    );
    // Every account may find out who signs tokens.
    let keys = cluster.ok(&format!("get --raw /openid/v1/jwks {robot}"));
    contains(&keys, "\"crv\":\"P-256\"");
    contains(
        &cluster.ok(&format!("get --raw /.well-known/openid-configuration {robot}")),
        "https://kubernetes.default.svc.cluster.local",
    );
}

fn review(cluster: &Cluster, token: &str, audiences: serde_json::Value) -> serde_json::Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    let answer = cluster.ok_with("create -o json -f -", Some(&review.to_string()));
    serde_json::from_str::<serde_json::Value>(&answer).unwrap()["status"].take()
}

#[test]
fn tokens_are_for_an_audience_and_end_with_what_they_are_bound_to() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok("create sa robot");
    let token = cluster.ok("create token robot --audience=vault --audience=spire --duration=20m");
    let status = review(&cluster, &token, json!(["spire", "other"]));
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["spire"]));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        review(&cluster, &token, json!([]))["authenticated"],
        serde_json::Value::Null
    );
    let vault = cluster.credentials("vault", json!({"token": token}));
    contains(
        &cluster.fails(&format!("get pods {vault}"), None),
        "You must be logged in",
    );
    contains(
        &cluster.fails("create token robot --duration=1m", None),
        "may not specify a duration less than 10 minutes",
    );
    cluster.ok("create secret generic held");
    let bound = cluster.ok("create token robot --bound-object-kind=Secret --bound-object-name=held");
    assert_eq!(review(&cluster, &bound, json!([]))["authenticated"], true);
    let extra = &review(&cluster, &bound, json!([]))["user"]["extra"];
    contains(&extra.to_string(), "JTI=");
    cluster.ok("delete secret held");
    assert_eq!(review(&cluster, &bound, json!([]))["error"], "[invalid bearer token]");
    contains(
        &cluster.fails(
            "create token robot --bound-object-kind=Pod --bound-object-name=none",
            None,
        ),
        "pods \"none\" not found",
    );
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";
    cluster.ok_with("create -f -", Some(pod));
    contains(
        &cluster.fails("create token robot --bound-object-kind=Pod --bound-object-name=p", None),
        "pod running with different serviceaccount",
    );
    let bound = cluster.ok("create token default --bound-object-kind=Pod --bound-object-name=p");
    contains(
        &review(&cluster, &bound, json!([]))["user"]["extra"].to_string(),
        "pod-name\":[\"p\"]",
    );
    cluster.ok("delete pod p --force --grace-period=0");
    assert_eq!(review(&cluster, &bound, json!([]))["error"], "[invalid bearer token]");
}

const LEGACY: &str = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata:\n  name: legacy\n  \
                      annotations: {kubernetes.io/service-account.name: robot}\n";

#[test]
fn controllers_fill_token_secrets_and_gather_roles() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.start_controllers();
    cluster.ok("create sa robot");
    cluster.ok_with("create -f -", Some(LEGACY));
    cluster.until("get secret legacy -o jsonpath='{.data}'", "token");
    contains(
        &cluster.ok("describe secret legacy"),
        "kubernetes.io/service-account.uid:",
    );
    let encoded = cluster.ok("get secret legacy -o jsonpath='{.data.token}'");
    let token = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let robot = cluster.credentials("robot", json!({"token": String::from_utf8(token).unwrap()}));
    contains(
        &cluster.ok(&format!("auth whoami {robot}")),
        "system:serviceaccount:default:robot",
    );
    cluster.ok("delete sa robot");
    contains(
        &cluster.fails(&format!("auth whoami {robot}"), None),
        "You must be logged in",
    );
    cluster.ok("wait --for=delete secret/legacy --timeout=60s");

    // Whoever adds a role to `view` widens what viewers may.
    cluster.ok("create rolebinding v --clusterrole=view --user=jane");
    let jane = cluster.user("jane", &[]);
    can(&cluster, "yes", &format!("get configmaps {jane}"));
    can(&cluster, "no", &format!("get secrets {jane}"));
    cluster.ok("create clusterrole more --verb=get --resource=secrets");
    cluster.ok("label clusterrole more rbac.authorization.k8s.io/aggregate-to-view=true");
    cluster.until(&format!("auth can-i get secrets {jane}"), "yes");
    cluster.ok("label clusterrole more rbac.authorization.k8s.io/aggregate-to-view-");
    cluster.until(&format!("auth can-i get secrets {jane}"), "no");
    cluster.until("get clusterrole admin -o jsonpath='{.rules[*].resources}'", "pods/exec");
}

#[test]
fn reconcile_brings_roles_to_what_a_file_says() {
    let Some(cluster) = Cluster::start() else { return };
    let roles = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: default}\nrules:\n- apiGroups: \
                 ['']\n  resources: [pods]\n  verbs: [get]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
                 RoleBinding\nmetadata: {name: b, namespace: default}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: \
                 r}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]\n";
    contains(
        &cluster.ok_with("auth reconcile -f -", Some(roles)),
        "role.rbac.authorization.k8s.io/r reconciled",
    );
    can(&cluster, "yes", "get pods --as=jane");
    let more = roles.replace("[get]", "[list]").replace("jane", "joe");
    cluster.ok_with("auth reconcile -f -", Some(&more));
    for user in ["jane", "joe"] {
        can(&cluster, "yes", &format!("get pods --as={user}"));
        can(&cluster, "yes", &format!("list pods --as={user}"));
    }
    cluster.ok_with(
        "auth reconcile --remove-extra-permissions --remove-extra-subjects -f -",
        Some(&more),
    );
    can(&cluster, "no", "list pods --as=jane");
    can(&cluster, "no", "get pods --as=joe");
}

#[test]
fn the_policy_of_every_cluster_is_there_and_valid() {
    let Some(cluster) = Cluster::start() else { return };
    let roles = cluster.ok("get clusterroles");
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:node",
        "system:auth-delegator",
    ] {
        assert!(
            roles.lines().any(|line| line.starts_with(name)),
            "no {name} in\n{roles}"
        );
    }
    contains(&cluster.ok("describe clusterrole view"), "configmaps");
    contains(
        &cluster.ok("describe clusterrolebinding cluster-admin"),
        "system:masters",
    );
    contains(
        &cluster.ok("get clusterrole edit -o yaml"),
        "kubernetes.io/bootstrapping: rbac-defaults",
    );
    // They went past validation; this sends each through it.
    for kind in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let all = cluster.ok(&format!("get {kind} -A -o yaml"));
        let again = cluster.ok_with("replace -f -", Some(&all));
        assert!(
            !again.is_empty() && again.lines().all(|line| line.ends_with("replaced")),
            "{again}"
        );
    }
}

#[test]
fn a_restore_gives_and_takes_rights_at_once_and_keeps_the_policy() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &[]);
    cluster.ok("create rolebinding v --clusterrole=view --user=jane");
    // As in a snapshot of before there was a policy.
    cluster.ok("delete clusterrole view system:basic-user");
    cluster.ok("delete clusterrolebinding system:discovery");
    let path = "/ztlab.dev/v1/snapshots/then";
    cluster.ok_with(&format!("replace --raw {path} -f -"), Some("{}"));
    cluster.ok("delete rolebinding v");
    cluster.ok("create clusterrolebinding all --clusterrole=cluster-admin --user=jane");
    cluster.ok(&format!("get --raw /api/v1/nodes {jane}"));
    // Not even who may do everything: a snapshot has every Secret in it.
    contains(
        &cluster.fails(&format!("create --raw {path}/restore -f - {jane}"), Some("{}")),
        "forbidden: User \"jane\" cannot post path \"/ztlab.dev/v1/snapshots/then/restore\"",
    );
    cluster.ok_with(&format!("create --raw {path}/restore -f -"), Some("{}"));
    contains(
        &cluster.fails(&format!("get --raw /api/v1/nodes {jane}"), None),
        "User \"jane\" cannot list resource \"nodes\"",
    );
    cluster.ok(&format!("get --raw /api {jane}"));
    cluster.ok(&format!("get pods {jane}"));
    can(&cluster, "yes", &format!("list pods {jane}"));
    can(&cluster, "no", &format!("list secrets {jane}"));
}

fn review_of(cluster: &Cluster, kind: &str, spec: serde_json::Value, more: &str) -> serde_json::Value {
    let mut review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    if kind == "LocalSubjectAccessReview" {
        review["metadata"] = json!({"namespace": "default"});
    }
    // kubectl asks for the custom kinds before it validates one that cannot be patched, which few may list.
    let answer = cluster.ok_with(
        &format!("create -o json --validate=false -f - {more}"),
        Some(&review.to_string()),
    );
    serde_json::from_str::<serde_json::Value>(&answer).unwrap()["status"].take()
}

#[test]
fn reviews_say_what_the_authoriser_says() {
    let Some(cluster) = Cluster::start() else { return };
    let jane = cluster.user("jane", &["devs", "ops"]);
    cluster.ok("create role reader --verb=get --resource=pods --resource-name=p");
    cluster.ok("create rolebinding readers --role=reader --group=devs");
    let asked =
        |verb: &str, name: &str| json!({"verb": verb, "resource": "pods", "namespace": "default", "name": name});
    for (verb, name, expected) in [("get", "p", true), ("get", "q", false), ("delete", "p", false)] {
        let own = json!({"resourceAttributes": asked(verb, name)});
        let mine = review_of(&cluster, "SelfSubjectAccessReview", own, &jane);
        assert_eq!(mine["allowed"], expected, "{verb} {name}: {mine}");
        for kind in ["SubjectAccessReview", "LocalSubjectAccessReview"] {
            let spec = json!({"user": "joe", "groups": ["devs"], "resourceAttributes": asked(verb, name)});
            let theirs = review_of(&cluster, kind, spec, "");
            assert_eq!(theirs["allowed"], expected, "{kind} {verb} {name}: {theirs}");
        }
    }
    let why = review_of(
        &cluster,
        "SubjectAccessReview",
        json!({"groups": ["devs"], "resourceAttributes": asked("get", "p")}),
        "",
    );
    assert_eq!(
        why["reason"],
        "RBAC: allowed by RoleBinding \"readers/default\" of Role \"reader\" to Group \"devs\""
    );
    let path = json!({"user": "joe", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/version"}});
    assert_eq!(review_of(&cluster, "SubjectAccessReview", path, "")["allowed"], true);
    let rules = review_of(
        &cluster,
        "SelfSubjectRulesReview",
        json!({"namespace": "default"}),
        &jane,
    );
    let found = rules["resourceRules"].as_array().unwrap();
    let own = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]});
    assert!(found.contains(&own), "{rules}");
    assert_eq!(rules["incomplete"], false);
    let elsewhere = review_of(
        &cluster,
        "SelfSubjectRulesReview",
        json!({"namespace": "kube-system"}),
        &jane,
    );
    assert!(
        !elsewhere["resourceRules"].as_array().unwrap().contains(&own),
        "{elsewhere}"
    );
    // Who may not ask about others is not told.
    let spec = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "joe", "resourceAttributes": asked("get", "p")}});
    contains(
        &cluster.fails(&format!("create --validate=false -f - {jane}"), Some(&spec.to_string())),
        "cannot create resource \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope",
    );
    let whoami = cluster.ok(&format!("auth whoami -o json {jane}"));
    let whoami: serde_json::Value = serde_json::from_str(&whoami).unwrap();
    assert_eq!(
        whoami["status"]["userInfo"],
        json!({"username": "jane", "groups": ["devs", "ops", "system:authenticated"]})
    );
}

#[test]
fn a_token_that_has_ended_is_answered_as_kubernetes_does() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok("create sa robot");
    let uid = cluster.ok("get sa robot -o jsonpath='{.metadata.uid}'");
    let now = jiff::Timestamp::now().as_second();
    let token = |ends: i64| {
        let claims = ztlab::embedded::control_plane::pki::TokenClaims {
            iss: "https://kubernetes.default.svc.cluster.local".to_owned(),
            sub: "system:serviceaccount:default:robot".to_owned(),
            aud: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            exp: Some(ends),
            kubernetes: json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}}),
            ..Default::default()
        };
        let token = cluster.pki.token_key().sign(&claims).unwrap();
        cluster.credentials(&format!("until-{ends}"), json!({"token": token}))
    };
    contains(
        &cluster.ok(&format!("auth whoami {}", token(now + 3600))),
        "system:serviceaccount:default:robot",
    );
    assert_eq!(
        cluster.fails(&format!("get --raw /api {}", token(now - 1)), None),
        "error: You must be logged in to the server (Unauthorized)"
    );
}

/// A key, and the body of a CertificateSigningRequest for it.
fn certificate_request(name: &str, group: &str, signer: &str) -> (rcgen::KeyPair, String) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": signer, "expirationSeconds": 86_400,
            "usages": ["client auth"], "username": "somebody-else"}});
    (key, body.to_string())
}

#[test]
fn a_user_gets_a_certificate_as_the_documents_say() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
    let Some(cluster) = Cluster::start() else { return };
    cluster.start_controllers();
    let (key, body) = certificate_request("myuser", "devs", SIGNER);
    cluster.ok_with("apply -f -", Some(&body));
    let shown = cluster.ok("get csr myuser");
    for part in ["REQUESTEDDURATION", SIGNER, "kubernetes-admin", "24h", "Pending"] {
        contains(&shown, part);
    }
    // Who may change requests may not, for that, approve those of a signer.
    let jane = cluster.user("jane", &[]);
    cluster.ok(
        "create clusterrole approve --verb=get,update --resource=certificatesigningrequests.certificates.k8s.io,\
         certificatesigningrequests.certificates.k8s.io/approval",
    );
    cluster.ok("create clusterrolebinding approve --clusterrole=approve --user=jane");
    contains(
        &cluster.fails(&format!("certificate approve myuser {jane}"), None),
        "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"",
    );
    cluster.ok("create clusterrolebinding signer --user=jane --clusterrole=system:certificates.k8s.io:kube-apiserver-client-approver");
    contains(
        &cluster.ok(&format!("certificate approve myuser {jane}")),
        "certificatesigningrequest.certificates.k8s.io/myuser approved",
    );
    cluster.until("get csr myuser", "Approved,Issued");
    let certificate = cluster.ok("get csr myuser -o jsonpath='{.status.certificate}'");
    assert!(
        STANDARD
            .decode(&certificate)
            .unwrap()
            .starts_with(b"-----BEGIN CERTIFICATE-----")
    );
    let myuser = cluster.credentials(
        "myuser",
        json!({"client-certificate-data": certificate, "client-key-data": STANDARD.encode(key.serialize_pem())}),
    );
    let who = cluster.ok(&format!("auth whoami {myuser}"));
    contains(&who, "myuser");
    contains(&who, "devs");
    can(&cluster, "no", &format!("create pods {myuser}"));
    cluster.ok("create role developer --verb=create,get,list,update,delete --resource=pods");
    cluster.ok("create rolebinding developer-binding-myuser --role=developer --user=myuser");
    can(&cluster, "yes", &format!("create pods {myuser}"));
    contains(&cluster.ok("describe csr myuser"), "Approved,Issued");
    // A verdict stays, and there is no certificate without it.
    let is_settled = |said: &str| said.contains("mutually exclusive") || said.contains("is already");
    let said = cluster.fails("certificate deny myuser", None);
    assert!(is_settled(&said), "{said}");
    let (_, body) = certificate_request("denied", "devs", SIGNER);
    cluster.ok_with("create -f -", Some(&body));
    cluster.ok("certificate deny denied");
    let said = cluster.fails("certificate approve denied", None);
    assert!(is_settled(&said), "{said}");
    assert_eq!(cluster.ok("get csr denied -o jsonpath='{.status.certificate}'"), "");
    contains(&cluster.ok("get csr denied"), "Denied");
    // Its signer signs no such thing, and says so.
    let (_, body) = certificate_request("odd", "devs", "kubernetes.io/kubelet-serving");
    cluster.ok_with("create -f -", Some(&body));
    cluster.ok("certificate approve odd");
    cluster.until("get csr odd", "Approved,Failed");
    let (_, body) = certificate_request("root", "system:masters", SIGNER);
    contains(
        &cluster.fails("create -f -", Some(&body)),
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
    );
    let broken = body
        .replace("LS0t", "AAAA")
        .replace("kube-apiserver-client", "Nonsense");
    let refused = cluster.fails("create -f -", Some(&broken));
    contains(&refused, "PEM block type must be CERTIFICATE REQUEST");
    contains(&refused, "must be a fully qualified domain and path of the form");
}
