//! Bytes that kubectl 1.32 sent, against the JSON that the same command prints with `--dry-run=client -o json`.

use proptest::prelude::*;

use super::*;

/// The value without what Go writes for nothing: nulls and empty objects.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(k, v)| (k.clone(), pruned(v)));
            Value::Object(kept.filter(|(_, v)| !v.is_null() && *v != json!({})).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

fn captured() -> Vec<(&'static str, Vec<u8>, Value)> {
    let lines: Vec<&str> = include_str!("captured.txt").lines().collect();
    let one = |c: &[&'static str]| {
        let bytes = STANDARD.decode(c[1]).expect("base64");
        (c[0], bytes, serde_json::from_str(c[2]).expect("JSON"))
    };
    lines.chunks(3).map(one).collect()
}

#[test]
fn what_kubectl_sends_is_what_it_prints() {
    let all = captured();
    assert!(all.len() >= 15);
    for (command, bytes, expected) in all {
        let decoded = decode(&bytes).unwrap_or_else(|e| panic!("{command}: {e}"));
        assert_eq!(pruned(&decoded), pruned(&expected), "{command}");
    }
}

#[test]
fn an_explicit_zero_survives() {
    let (_, bytes, _) = captured()
        .into_iter()
        .find(|(c, ..)| c.contains("--replicas=0"))
        .expect("captured");
    let decoded = decode(&bytes).expect("decodes");
    assert_eq!(decoded["spec"]["replicas"], 0);
    assert!(decoded["spec"].get("minReadySeconds").is_none(), "{decoded}");
    assert!(decoded["metadata"].get("creationTimestamp").is_none());
}

/// A message from (field number, content) pairs.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, content) in fields {
        bytes.extend([number << 3 | 2, u8::try_from(content.len()).expect("short")]);
        bytes.extend(*content);
    }
    bytes
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = message(&[(1, api_version.as_bytes()), (2, kind.as_bytes())]);
    [b"k8s\0".as_slice(), &message(&[(1, &meta), (2, raw)])].concat()
}

#[test]
fn times_micro_times_and_embedded_messages() {
    // 2026-01-01T00:00:00Z is 1767225600, as a varint 80 f2 d6 ca 06
    let time = [0x08, 0x80, 0xf2, 0xd6, 0xca, 0x06];
    let metadata = message(&[(1, b"p"), (8, &time)]);
    let http_get = message(&[(1, b"/healthz"), (2, &[0x08, 0x00, 0x10, 80])]);
    let probe = message(&[(1, &message(&[(2, &http_get)]))]);
    let container = message(&[(1, b"c"), (10, &probe)]);
    let pod = message(&[(1, &metadata), (2, &message(&[(2, &container)]))]);
    let decoded = decode(&body("v1", "Pod", &pod)).expect("decodes");
    assert_eq!(
        decoded["metadata"],
        json!({"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"})
    );
    let expected = json!({"httpGet": {"path": "/healthz", "port": 80}});
    assert_eq!(decoded["spec"]["containers"][0]["livenessProbe"], expected);
    let micro = [time.as_slice(), &[0x10, 0xc0, 0x84, 0x3d]].concat();
    let event = message(&[(10, &micro)]);
    let decoded = decode(&body("v1", "Event", &event)).expect("decodes");
    assert_eq!(decoded["eventTime"], "2026-01-01T00:00:00.001000Z");
}

#[test]
fn broken_bodies_are_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(decode(&body("v1", "Pod", &[0x0a, 0x7f])), Err(ProtobufError::Truncated));
    assert_eq!(
        decode(&body("v1", "Pod", &[0x08, 0x01])),
        Err(ProtobufError::WrongType("metadata"))
    );
    assert!(matches!(
        decode(&body("v1", "Widget", &[])),
        Err(ProtobufError::UnknownKind(_))
    ));
    assert!(matches!(
        decode(&body("coordination.k8s.io/v1", "Lease", &[])),
        Err(ProtobufError::UnknownKind(_))
    ));
    let many = [0x12, 0x00].repeat(300_000);
    let mut spec = vec![0x12];
    spec.extend([0xc0, 0xcf, 0x24]); // the length 600000
    spec.extend(many);
    let mut whole = b"k8s\0".to_vec();
    whole.extend(message(&[(1, &message(&[(1, b"v1"), (2, b"Pod")]))]));
    whole.extend([0x12, 0xc4, 0xcf, 0x24]);
    whole.extend(spec);
    assert_eq!(decode(&whole), Err(ProtobufError::TooMany));
}

proptest! {
    #[test]
    fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
        for kind in ["Pod", "Service", "Secret", "Event"] {
            let _ = decode(&[b"k8s\0".as_slice(), &message(&[(1, &message(&[(1, b"v1"), (2, kind.as_bytes())])), (2, &raw)])].concat());
        }
    }

    #[test]
    fn mangled_real_bodies_never_panic(which in 0..16_usize, at in 0..300_usize, byte in any::<u8>()) {
        let all = captured();
        let mut bytes = all[which % all.len()].1.clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = decode(&bytes);
    }
}
