//! What a ground needs manifests to say, in one place: other names of namespaces, other images, marks of who made them.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What every image of ztlab begins with.
pub const IMAGES: &str = "ztlab.dev/";
/// The label that says which lab made an object.
pub const LAB_LABEL: &str = "ztlab.dev/lab";
/// The label that says for which student.
pub const OWNER_LABEL: &str = "ztlab.dev/owner";

/// The annotation of a namespace that says where the images of ztlab are for its pods: what is to stand in the place of
/// [`IMAGES`].
const IMAGES_ANNOTATION: &str = "ztlab.dev/images";

/// How manifests are changed before they are written. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transform {
    /// Put before the names of `namespaces`, wherever they are named.
    #[serde(default)]
    pub prefix: String,
    /// Put in the place of [`IMAGES`] at the beginning of an image's name.
    #[serde(default)]
    pub images: Option<String>,
    /// Put on everything that is in no namespace: the mark of who made it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The namespaces of the lab, by the names its manifests use.
    #[serde(default)]
    pub namespaces: BTreeSet<String>,
}

impl Transform {
    /// What a namespace of the manifests is called.
    pub fn namespace(&self, name: &str) -> String {
        if self.namespaces.contains(name) {
            format!("{}{name}", self.prefix)
        } else {
            name.to_owned()
        }
    }

    /// A namespace that these objects are, or are in, and that is not the lab's, on a cluster that others use too. They
    /// are as this ground needs them.
    pub fn foreign(&self, objects: &[DynamicObject]) -> Option<String> {
        if self.labels.is_empty() {
            return None;
        }
        let mine: BTreeSet<String> = self.namespaces.iter().map(|name| self.namespace(name)).collect();
        super::namespaces(objects).into_iter().find(|name| !mine.contains(name))
    }

    /// What an image is called.
    pub fn image(&self, name: &str) -> String {
        match (&self.images, name.strip_prefix(IMAGES)) {
            (Some(images), Some(rest)) => format!("{}/{rest}", images.trim_end_matches('/')),
            _ => name.to_owned(),
        }
    }

    /// A text in which the namespaces are called what they are called here: in the options of kubectl and in DNS names.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.prefix.is_empty() {
            return text;
        }
        for name in &self.namespaces {
            let new = self.namespace(name);
            text = self.dns(&text);
            for option in ["-n ", "--namespace ", "--namespace="] {
                text = replace_word(&text, option, name, &new);
            }
        }
        text
    }

    pub(super) fn dns(&self, text: &str) -> String {
        self.namespaces.iter().fold(text.to_owned(), |text, name| {
            text.replace(&format!(".{name}.svc"), &format!(".{}.svc", self.namespace(name)))
        })
    }

    /// The objects as this ground needs them.
    pub fn objects(&self, objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
        objects.into_iter().map(|object| self.object(object)).collect()
    }

    fn object(&self, mut object: DynamicObject) -> DynamicObject {
        let is_namespace = object.types.as_ref().is_some_and(|types| types.kind == "Namespace");
        match (&mut object.metadata.namespace, &mut object.metadata.name) {
            (Some(namespace), _) => *namespace = self.namespace(namespace),
            (None, Some(name)) if is_namespace => *name = self.namespace(name),
            _ => {}
        }
        if object.metadata.namespace.is_none() && !self.labels.is_empty() {
            let labels = object.metadata.labels.get_or_insert_default();
            labels.extend(self.labels.clone());
        }
        if let Some(images) = self.images.as_ref().filter(|_| is_namespace) {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(IMAGES_ANNOTATION.to_owned(), images.clone());
        }
        self.value(&mut object.data);
        object
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) if !self.prefix.is_empty() => *text = self.dns(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    match (name.as_str(), &mut *field) {
                        // Of a subject, of a reference, and the label every namespace has.
                        ("namespace" | "kubernetes.io/metadata.name", Value::String(name)) => {
                            *name = self.namespace(name);
                        }
                        ("containers" | "initContainers" | "ephemeralContainers", Value::Array(containers)) => {
                            for container in containers {
                                if let Some(Value::String(image)) = container.get_mut("image") {
                                    *image = self.image(image);
                                }
                                self.value(container);
                            }
                        }
                        (_, field) => self.value(field),
                    }
                }
            }
            _ => {}
        }
    }
}

/// What an image is called in a namespace with these annotations: so whoever adds a container to a pod finds it where the
/// pod's own are from.
pub fn image_in(annotations: &BTreeMap<String, String>, image: &str) -> String {
    let images = annotations.get(IMAGES_ANNOTATION).cloned();
    let transform = Transform {
        images: images.filter(|images| !images.is_empty()),
        ..Transform::default()
    };
    transform.image(image)
}

/// Replaces `word` where it stands alone behind `before`.
pub(super) fn replace_word(text: &str, before: &str, word: &str, new: &str) -> String {
    let wanted = format!("{before}{word}");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&wanted) {
        let end = at + wanted.len();
        let follows = rest[end..].chars().next();
        out.push_str(&rest[..at + before.len()]);
        let is_word = follows.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '-'));
        out.push_str(if is_word { new } else { word });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The images that the pods of these objects run.
pub fn images(objects: &[DynamicObject]) -> BTreeSet<String> {
    fn look(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| look(item, into)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    if let ("containers" | "initContainers", Value::Array(containers)) = (name.as_str(), field) {
                        let images = containers
                            .iter()
                            .filter_map(|container| container.get("image")?.as_str());
                        into.extend(images.map(str::to_owned));
                    }
                    look(field, into);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    objects.iter().for_each(|object| look(&object.data, &mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifests::{built_in, parse};

    fn transform() -> Transform {
        Transform {
            prefix: "ann-".to_owned(),
            images: Some("registry.example/lab/".to_owned()),
            labels: BTreeMap::from([(LAB_LABEL.to_owned(), "wiretap".to_owned())]),
            namespaces: BTreeSet::from(["shop".to_owned()]),
        }
    }

    #[test]
    fn the_default_changes_nothing() {
        let flat = built_in("flat").unwrap().unwrap();
        assert_eq!(Transform::default().objects(flat.clone()), flat);
    }

    #[test]
    fn namespaces_images_and_marks_are_set_everywhere() {
        let text = "
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: a, namespace: shop }
spec:
  template:
    spec:
      initContainers: [ { name: i, image: 'ztlab.dev/toolbox:1' } ]
      containers:
        - { name: c, image: 'ztlab.dev/shop/a:1', env: [ { name: URL, value: 'http://b.shop.svc:80/shop' } ] }
        - { name: d, image: 'nginx:1' }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: r }
subjects: [ { kind: ServiceAccount, name: a, namespace: shop }, { kind: ServiceAccount, name: b, namespace: kube-system } ]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: policy, namespace: shop }
spec: { ingress: [ { from: [ { namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: shop } } } ] } ] }
";
        let done = transform().objects(parse("x", text).unwrap());
        assert_eq!(done[0].metadata.name.as_deref(), Some("ann-shop"));
        assert_eq!(done[0].metadata.labels.as_ref().unwrap()[LAB_LABEL], "wiretap");
        assert_eq!(done[1].metadata.namespace.as_deref(), Some("ann-shop"));
        assert_eq!(done[1].metadata.labels, None, "only what is in no namespace is marked");
        let pod = &done[1].data["spec"]["template"]["spec"];
        assert_eq!(pod["initContainers"][0]["image"], "registry.example/lab/toolbox:1");
        assert_eq!(pod["containers"][0]["image"], "registry.example/lab/shop/a:1");
        assert_eq!(pod["containers"][0]["env"][0]["value"], "http://b.ann-shop.svc:80/shop");
        assert_eq!(pod["containers"][1]["image"], "nginx:1");
        assert_eq!(done[2].data["subjects"][0]["namespace"], "ann-shop");
        assert_eq!(done[2].data["subjects"][1]["namespace"], "kube-system");
        let from = &done[3].data["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"];
        assert_eq!(from["kubernetes.io/metadata.name"], "ann-shop");
        assert_eq!(transform().foreign(&done), None);
        let foreign = parse(
            "x",
            "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: kube-system}}",
        )
        .unwrap();
        assert_eq!(transform().foreign(&foreign).as_deref(), Some("kube-system"));
        assert_eq!(Transform::default().foreign(&foreign), None, "a cluster of one's own");
        let annotations = done[0].metadata.annotations.clone().unwrap();
        assert_eq!(
            image_in(&annotations, "ztlab.dev/observer:1"),
            "registry.example/lab/observer:1"
        );
        assert_eq!(
            image_in(&BTreeMap::new(), "ztlab.dev/observer:1"),
            "ztlab.dev/observer:1"
        );
        let of = images(&done);
        assert_eq!(of.len(), 3, "{of:?}");
    }

    #[test]
    fn instructions_name_the_namespace_that_there_is() {
        let text =
            "kubectl get pods -n shop -o wide; curl a.shop.svc; kubectl -n shopping get; --namespace=shop\n-n shop";
        assert_eq!(
            transform().text(text),
            "kubectl get pods -n ann-shop -o wide; curl a.ann-shop.svc; kubectl -n shopping get; --namespace=ann-shop\n-n ann-shop"
        );
        assert_eq!(Transform::default().text(text), text);
    }
}
