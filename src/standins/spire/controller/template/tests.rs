use k8s_openapi::{
    api::core::v1::{Node, Pod},
    serde_json::json,
};
use proptest::prelude::*;

use super::{super::facts::Facts, *};

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "orders-1", "namespace": "shop", "uid": "u-1", "generation": 3,
            "labels": {"app": "orders", "Name": "a label that is called as a field is"},
            "annotations": {"example.com/id": "x"}},
        "spec": {"serviceAccountName": "orders", "nodeName": "n1", "priority": 7,
            "containers": [{"name": "main", "image": "a/b:1", "ports": [{"containerPort": 80}]}]},
    }))
    .unwrap()
}

fn node() -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1", "uid": "n-uid", "labels": {"zone": "a"}}})).unwrap()
}

fn render(text: &str) -> Result<String, TemplateError> {
    let (node, pod) = (node(), pod());
    Template::parse(text)?.render(&Facts {
        trust_domain: "shop.test",
        cluster_name: "demo",
        cluster_domain: "cluster.local",
        node: &node,
        pod: Some(&pod),
    })
}

#[test]
fn templates_that_spires_documents_show_give_what_go_gives() {
    for (text, made) in [
        (
            "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}",
            "spiffe://shop.test/ns/shop/sa/orders",
        ),
        (
            "{{ .PodMeta.Name }}.{{ .PodMeta.Namespace }}.{{ .ClusterDomain }}",
            "orders-1.shop.cluster.local",
        ),
        (
            "{{ .ClusterName }}/{{ .NodeMeta.UID }}/{{ .NodeMeta.Name }}",
            "demo/n-uid/n1",
        ),
        ("{{ .PodMeta.UID }} {{ .PodMeta.Labels.app }}", "u-1 orders"),
        (r#"{{ index .PodMeta.Labels "app" }}"#, "orders"),
        (r#"{{ index .PodMeta.Annotations "example.com/id" }}"#, "x"),
        ("{{ (index .PodSpec.Containers 0).Image }}", "a/b:1"),
        (
            "{{ (index (index .PodSpec.Containers 0).Ports 0).ContainerPort }}",
            "80",
        ),
        ("{{ range .PodSpec.Containers }}{{ .Name }}{{ end }}", "main"),
        ("{{ with .PodMeta.Labels.app }}{{ . }}{{ else }}none{{ end }}", "orders"),
        (
            r#"{{ printf "%s-%d" .PodMeta.Name 2 | printf "%q" }}"#,
            r#""orders-1-2""#,
        ),
        (r#"{{ if eq .PodMeta.Namespace "shop" }}a{{ else }}b{{ end }}"#, "a"),
        ("{{ len .PodMeta.Labels }} {{ slice .PodMeta.Name 0 3 }}", "2 ord"),
        ("{{- /* a comment */ -}} x", "x"),
        ("{{ $n := .PodMeta.Name }}{{ $n }}", "orders-1"),
        ("{{ .PodSpec.Priority }} {{ .PodMeta.Generation }}", "7 3"),
    ] {
        assert_eq!(render(text), Ok(made.to_owned()), "{text}");
    }
}

#[test]
fn what_is_not_set_is_what_go_has_for_it() {
    for (text, made) in [
        ("{{ .PodMeta.GenerateName }}|{{ .PodSpec.HostNetwork }}", "|false"),
        ("{{ if .PodSpec.SecurityContext }}a{{ else }}b{{ end }}", "b"),
        (
            "{{ len .NodeMeta.Annotations }} {{ len .PodSpec.InitContainers }}",
            "0 0",
        ),
        // A key that a map does not have: the template's text, or an empty one from `index`.
        ("{{ .PodMeta.Labels.team }}", "<no value>"),
        (
            r#"{{ index .PodMeta.Labels "team" }}|{{ index .NodeMeta.Annotations "x" }}"#,
            "|",
        ),
        ("{{ if .PodMeta.Labels.team }}a{{ else }}b{{ end }}", "b"),
        (r#"{{ or .PodMeta.Labels.team "default" }}"#, "default"),
        (
            "{{ with .PodMeta.Annotations.team }}{{ . }}{{ else }}none{{ end }}",
            "none",
        ),
        (
            "{{ range $k, $v := .NodeMeta.Labels }}{{ $k }}={{ $v }}{{ end }}{{ .NodeMeta.Labels.nothing }}",
            "zone=a<no value>",
        ),
    ] {
        assert_eq!(render(text), Ok(made.to_owned()), "{text}");
    }
}

#[test]
fn a_field_that_does_not_exist_is_an_error_as_in_go() {
    for (text, field) in [
        ("{{ .PodMeta.Nmae }}", "Nmae"),
        ("{{ .TrustDomian }}", "TrustDomian"),
        ("{{ .PodSpec.serviceAccountName }}", "serviceAccountName"),
        ("{{ .PodMeta.name }}", "name"),
        ("{{ range .PodSpec.Containers }}{{ .Nmae }}{{ end }}", "Nmae"),
        ("{{ if .PodSpec.Nothing }}{{ end }}", "Nothing"),
        ("{{ (index .PodSpec.Containers 0).Nothing }}", "Nothing"),
        ("{{ $.PodStatus }}", "PodStatus"),
    ] {
        assert_eq!(render(text), Err(TemplateError::NoField(field.into())), "{text}");
    }
    let deeper = render("{{ .PodMeta.Name.First }}");
    assert!(
        matches!(&deeper, Err(TemplateError::Execute(why)) if why.contains("First")),
        "{deeper:?}"
    );
}

#[test]
fn an_untaken_branch_may_ask_for_anything() {
    assert_eq!(render("{{ if false }}{{ .PodMeta.Nmae }}{{ end }}a"), Ok("a".into()));
}

#[test]
fn what_is_no_template_is_refused_before_any_pod_is_seen() {
    for text in [
        "{{",
        "{{ .PodMeta",
        "{{ if }}{{ end }}",
        "{{ end }}",
        "{{ range .X }}",
        "{{ nothing .X }}",
        "{{ .X | lower }}",
        "{{}}",
        "a{{ end }}b",
    ] {
        let error = Template::parse(text).unwrap_err();
        assert!(matches!(error, TemplateError::Syntax(_)), "{text}: {error}");
        assert!(!error.to_string().contains("\\0"), "{text}: {error}");
    }
    assert_eq!(
        Template::parse(&"a".repeat(4097)).unwrap_err(),
        TemplateError::Long(4097)
    );
    for text in [
        r#"{{ define "a" }}{{ end }}x"#,
        r#"{{ template "a" . }}"#,
        r#"{{ template "" . }}"#,
        r#"{{ block "a" . }}b{{ end }}"#,
        r#"{{ if true }}{{ template "a" }}{{ end }}"#,
    ] {
        assert_eq!(Template::parse(text).unwrap_err(), TemplateError::Named, "{text}");
    }
}

#[test]
fn no_template_makes_more_than_it_may() {
    assert_eq!(render(r#"{{ printf "%9000d" 1 }}"#), Err(TemplateError::TooMuch));
    let doubling = |function: &str| {
        let mut text = r#"{{ $x := "\\\\\\\\" }}"#.to_owned();
        for _ in 0..60 {
            text += &format!("{{{{ $x = {function} }}}}");
        }
        text
    };
    for function in [r#"printf "%s%s" $x $x"#, "print $x $x", "js $x", "println $x $x $x $x"] {
        let made = render(&doubling(function));
        assert!(
            matches!(&made, Err(TemplateError::Execute(why)) if why.contains("more than")),
            "{function}: {made:?}"
        );
    }
    let endless = render("{{ range 100000000 }}{{ end }}");
    assert!(matches!(endless, Err(TemplateError::Execute(_))), "{endless:?}");
    let many = (0..20).map(|_| " 1").collect::<String>();
    assert!(render(&format!("{{{{ print{many} }}}}")).is_err());
}

proptest! {
    #[test]
    fn no_template_panics(text in r#"(\{\{|\}\}|[.a-zA-Z ()"|$:=0-9-]|range|end|if|with|index|printf|\.PodMeta|\.Labels){0,60}"#) {
        let _ = render(&text);
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = render(&text);
        let _ = render(&format!("{{{{ {text} }}}}"));
    }
}
