//! RFC 6902.

use json_patch::PatchOperation;
use serde_json::Value;

use super::PatchError;

/// More operations than this are refused, as kube-apiserver does.
const MAX_OPERATIONS: usize = 10_000;

/// Bytes that all copies together may make: the limit of a request's body.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch.
///
/// # Errors
/// A body that is no JSON patch, or an operation that fails.
pub fn json(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MAX_OPERATIONS {
        let text = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {operations}");
        return Err(PatchError::BadRequest(text));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))?;
    let mut object = original.clone();
    let mut copied = 0;
    for operation in patch.0 {
        if let PatchOperation::Copy(copy) = &operation {
            copied += object
                .pointer(copy.from.as_str())
                .map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                let text = "unable to copy: the accumulated size of copy operations is too large";
                return Err(PatchError::BadRequest(text.into()));
            }
        }
        // kube-apiserver takes a missing field for null here: that is how clients add the first finalizer of an object.
        if let PatchOperation::Test(test) = &operation
            && test.value.is_null()
            && object.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(&mut object, &[operation]).map_err(|e| PatchError::Unprocessable(e.to_string()))?;
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn operations_apply_in_order_and_a_failed_test_refuses_all() {
        let object = value!({"metadata": {"labels": {"a": "1"}}, "list": [1, 2]});
        let patch = value!([
            {"op": "test", "path": "/metadata/labels/a", "value": "1"},
            {"op": "add", "path": "/list/-", "value": 3},
            {"op": "remove", "path": "/metadata/labels/a"},
        ]);
        let patched = json(&object, &patch).expect("applies");
        assert_eq!(patched, value!({"metadata": {"labels": {}}, "list": [1, 2, 3]}));
        let wrong = value!([{"op": "test", "path": "/list/0", "value": 9}]);
        assert!(matches!(json(&object, &wrong), Err(PatchError::Unprocessable(_))));
        assert!(matches!(
            json(&object, &value!({"op": "add"})),
            Err(PatchError::BadRequest(_))
        ));
    }

    #[test]
    fn a_missing_field_is_null_to_a_test() {
        let patch = value!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]},
        ]);
        let patched = json(&value!({"metadata": {}}), &patch).expect("applies");
        assert_eq!(patched, value!({"metadata": {"finalizers": ["a/b"]}}));
        assert!(json(&patched, &patch).is_err(), "it is there by now");
        let other = value!([{"op": "test", "path": "/metadata/finalizers", "value": []}]);
        assert!(json(&value!({"metadata": {}}), &other).is_err());
    }

    #[test]
    fn copies_cannot_blow_up_memory_by_doubling() {
        // each copy doubles what lies at /a: 40 of them would be a terabyte
        let mut operations = vec![];
        for i in 0..40 {
            operations.push(value!({"op": "copy", "from": "/a", "path": format!("/a/k{i}")}));
        }
        assert!(json(&value!({"a": {"x": "y"}}), &Value::Array(operations)).is_err());
    }
}
