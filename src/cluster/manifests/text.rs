//! Files of manifests as a ground needs them, with what their authors wrote around the objects: comments are for students.

use kube::core::DynamicObject;

use super::{IMAGES, Transform, parse};
use crate::cluster::ClusterError;

impl Transform {
    /// A file of manifests as this ground needs it. Comments stay, but those inside of a document whose change no line tells.
    ///
    /// # Errors
    /// A document that is no Kubernetes object.
    pub fn file(&self, file: &str, text: &str) -> Result<String, ClusterError> {
        let mut out = String::new();
        let mut document = String::new();
        for line in text.split_inclusive('\n') {
            if line.trim_end() == "---" || line.starts_with("--- ") {
                out.push_str(&self.document(file, &document)?);
                out.push_str(line);
                document.clear();
            } else {
                document.push_str(line);
            }
        }
        out.push_str(&self.document(file, &document)?);
        Ok(out)
    }

    fn document(&self, file: &str, text: &str) -> Result<String, ClusterError> {
        let objects = parse(file, text)?;
        let wanted = self.objects(objects.clone());
        if objects == wanted {
            return Ok(text.to_owned());
        }
        if let ([object], [new]) = (objects.as_slice(), wanted.as_slice()) {
            let edited = self.edited(text, object, new);
            // Whatever the lines look like: what counts is what they say.
            if parse(file, &edited).is_ok_and(|is| is == wanted) {
                return Ok(edited);
            }
        }
        let mut out: String = text
            .split_inclusive('\n')
            .take_while(|line| line.starts_with('#') || line.trim().is_empty())
            .collect();
        for (at, object) in wanted.iter().enumerate() {
            let written = serde_yaml::to_string(object).map_err(|error| ClusterError::Manifest {
                file: file.to_owned(),
                reason: error.to_string(),
            })?;
            out.push_str(if at == 0 { "" } else { "---\n" });
            out.push_str(written.trim_end());
            out.push('\n');
        }
        Ok(out)
    }

    /// The lines of a document with other names, other images and the marks.
    fn edited(&self, text: &str, object: &DynamicObject, new: &DynamicObject) -> String {
        let mut text = text.to_owned();
        if !self.prefix.is_empty() {
            for name in &self.namespaces {
                for field in ["namespace: ", "kubernetes.io/metadata.name: "] {
                    text = super::transform::replace_word(&text, field, name, &self.namespace(name));
                }
            }
            text = self.dns(&text);
            if let (Some(old), Some(new)) = (&object.metadata.name, &new.metadata.name) {
                text = super::transform::replace_word(&text, "\n  name: ", old, new);
            }
        }
        if self.images.is_some() {
            for before in ["image: ", "image: '", "image: \""] {
                let with = format!("{before}{}", self.image(IMAGES));
                text = text.replace(&format!("{before}{IMAGES}"), &with);
            }
        }
        if object.metadata.labels != new.metadata.labels {
            text = self.marked(&text);
        }
        text
    }

    /// The lines of a document with the marks among its labels.
    fn marked(&self, text: &str) -> String {
        let mut out = String::new();
        let mut lines = text.split_inclusive('\n').peekable();
        let marks = |out: &mut String| {
            for (key, value) in &self.labels {
                out.push_str(&format!("    {key}: {}\n", serde_json::json!(value)));
            }
        };
        while let Some(line) = lines.next() {
            out.push_str(line);
            if line.trim_end() != "metadata:" {
                continue;
            }
            if !line.ends_with('\n') {
                out.push('\n');
            }
            let mut fields = String::new();
            let mut marked = false;
            while let Some(line) = lines.next_if(|line| line.starts_with([' ', '#']) || line.trim().is_empty()) {
                fields.push_str(line);
                if line.trim_end() == "  labels:" {
                    marks(&mut fields);
                    marked = true;
                }
            }
            if !marked {
                out.push_str("  labels:\n");
                marks(&mut out);
            }
            out.push_str(&fields);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::cluster::manifests::{LAB_LABEL, OWNER_LABEL, layers, texts};

    fn transform(prefix: &str) -> Transform {
        Transform {
            prefix: prefix.to_owned(),
            images: Some("registry.example/lab".to_owned()),
            labels: BTreeMap::from([
                (LAB_LABEL.to_owned(), "spire".to_owned()),
                // Not a number, whatever it looks like.
                (OWNER_LABEL.to_owned(), "0123456789012345".to_owned()),
            ]),
            namespaces: BTreeSet::from(["shop".to_owned(), "spire".to_owned()]),
        }
    }

    #[test]
    fn every_file_that_ships_says_what_its_objects_become_and_keeps_its_comments() {
        for prefix in ["", "ann-"] {
            let transform = transform(prefix);
            for (name, text) in layers().flat_map(|layer| texts(layer).unwrap()) {
                let done = transform.file(name, text).unwrap();
                let wanted = transform.objects(parse(name, text).unwrap());
                assert_eq!(parse(name, &done).unwrap(), wanted, "{name}");
                let comments = |text: &str| {
                    let lines = text.lines().map(str::trim).filter(|line| line.starts_with('#'));
                    lines.map(str::to_owned).collect::<Vec<_>>()
                };
                if prefix.is_empty() {
                    assert_eq!(comments(&done), comments(text), "{name}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_changed_where_nothing_is_to_be() {
        let text = texts("spire").unwrap()[3].1;
        assert_eq!(Transform::default().file("x", text).unwrap(), text);
    }

    #[test]
    fn what_no_line_tells_is_written_anew_below_its_comment() {
        let text =
            "# Why.\n{ apiVersion: v1, kind: Namespace, metadata: { name: shop } } # inside\n---\n# Nothing here.\n";
        let done = transform("").file("x", text).unwrap();
        assert!(
            done.starts_with("# Why.\n") && done.ends_with("---\n# Nothing here.\n"),
            "{done}"
        );
        assert_eq!(
            parse("x", &done).unwrap(),
            transform("").objects(parse("x", text).unwrap())
        );
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n\
                    - {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n";
        assert_eq!(parse("x", &transform("").file("x", list).unwrap()).unwrap().len(), 2);
        assert!(transform("").file("x", "just text").is_err());
    }
}
