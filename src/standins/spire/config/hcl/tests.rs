use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn blocks_may_stand_in_one_line_with_all_that_is_in_them() {
    let one_line = r#"agent { data_dir = "/run" log_level = "DEBUG" server_port = 8081 }
        plugins { NodeAttestor "k8s_psat" { plugin_data { cluster = "demo", token_path = "/t" } } KeyManager "memory" { plugin_data {} } }"#;
    let many = r#"
        agent {
            data_dir = "/run"
            log_level = "DEBUG"
            server_port = 8081
        }
        plugins {
            NodeAttestor "k8s_psat" {
                plugin_data {
                    cluster = "demo"
                    token_path = "/t"
                }
            }
            KeyManager "memory" {
                plugin_data {
                }
            }
        }
    "#;
    let read = parse(one_line).unwrap();
    assert_eq!(read, parse(many).unwrap());
    assert_eq!(
        read,
        json!({"agent": {"data_dir": "/run", "log_level": "DEBUG", "server_port": 8081},
            "plugins": {"NodeAttestor": {"k8s_psat": {"plugin_data": {"cluster": "demo", "token_path": "/t"}}},
                "KeyManager": {"memory": {"plugin_data": {}}}}})
    );
}

#[test]
fn values_of_every_kind_are_read() {
    let text = r#"
        # a comment
        // another
        /* and one
           of two lines */
        text = "a \"b\" \\ \t \u00e9 \x41 \101"
        kept = "${env("HOME")} and $5"
        numbers = [1, -2, 0x1F, 017, 2.5, 1e3,]
        flags = [true, false]
        "a quoted key" = true
        dotted.key-of_all = 0
        clusters = { "demo" = { list = ["a", "b"] }
                     "other" { list = [] } }
        here = <<END
  as it
 is
END
        indented = <<-END
            two
              words
            END
    "#;
    assert_eq!(
        parse(text).unwrap(),
        json!({
            "text": "a \"b\" \\ \t \u{e9} A A", "kept": "${env(\"HOME\")} and $5",
            "numbers": [1, -2, 31, 15, 2.5, 1000.0], "flags": [true, false],
            "a quoted key": true, "dotted.key-of_all": 0,
            "clusters": {"demo": {"list": ["a", "b"]}, "other": {"list": []}},
            "here": "  as it\n is\n", "indented": "two\n  words\n",
        })
    );
}

#[test]
fn blocks_of_one_name_are_kept_apart() {
    let labelled = r#"NodeAttestor "a" { x = 1 } NodeAttestor "b" { x = 2 }"#;
    assert_eq!(
        parse(labelled).unwrap(),
        json!({"NodeAttestor": {"a": {"x": 1}, "b": {"x": 2}}})
    );
    let same = r#"UpstreamAuthority "a" { x = 1 } UpstreamAuthority "a" { x = 2 } UpstreamAuthority "a" { x = 3 }"#;
    assert_eq!(
        parse(same).unwrap(),
        json!({"UpstreamAuthority": {"a": [{"x": 1}, {"x": 2}, {"x": 3}]}})
    );
    assert_eq!(parse("a = 1, b = 2 a = 3").unwrap(), json!({"a": 3, "b": 2}));
    assert_eq!(
        parse("a { x = 1 }\na { x = 2 }").unwrap(),
        json!({"a": [{"x": 1}, {"x": 2}]})
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, said) in [
        (
            "a = 1\nb",
            "line 2: `=` or `{` is expected after `b`, not the end of the file",
        ),
        (
            "a {\n b = 1\n",
            "line 3: the file ends within a block: a `}` is missing",
        ),
        (
            "a = demo",
            "line 1: a value is expected, not `demo`: text is written in quotes",
        ),
        ("a \"b\" = 1", "line 1: a block is expected after `a b`"),
        ("a = [1 2]", "line 1: a comma is expected in a list, not `2`"),
        ("a = \"b\nc\"", "line 1: a text is not closed: `\"` is missing"),
        ("}", "line 1: a key is expected, not `}`"),
        (", a = 1", "line 1: a key is expected, not `,`"),
        ("a = 08", "line 1: `08` is no number"),
        (
            "a = <<E\nb",
            "line 2: the text after `<<E` does not end: a line `E` is missing",
        ),
        ("a = \"\\q\"", "line 1: an escape that HCL does not have is in a text"),
        ("a = ?", "line 1: `?` has no meaning here"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), said, "{text}");
    }
    let deep = format!("a = {}1{}", "[".repeat(100), "]".repeat(100));
    assert!(parse(&deep).unwrap_err().to_string().contains("too deep"));
    assert!(parse(&"a {".repeat(100_000)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z{}\\[\\]=,\"\\\\$<E\n /*#0-9.x-]{0,60}|\\PC{0,60}") {
        let _ = parse(&text);
    }
}
