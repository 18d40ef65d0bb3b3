//! What a lab starts from: its layers and files, and the calls that it declares.

use super::Validator;
use crate::lab::{
    error::one_of,
    model::Edge,
    raw::{RawEdge, Spanned, Text},
};

impl Validator<'_> {
    pub(super) fn topology(&mut self, raw: &Spanned<Vec<Text>>) -> Vec<String> {
        if raw.value.is_empty() {
            self.places
                .report(raw, "a lab starts from at least one topology layer")
                .expected("`[flat]`, and what is added to it");
        }
        let mut layers = Vec::new();
        let mut policies = false;
        for layer in &raw.value {
            if layer.value.starts_with("./") || layer.value.contains('/') {
                // What the files make is known already: see `files`.
                let files = self.files(layer);
                let read = |file: &String| self.among.manifests.read(file, &self.among.files[file]);
                policies |= files
                    .iter()
                    .filter_map(|file| read(file).ok())
                    .any(|layer| layer.policies);
                layers.extend(files.into_iter().map(|file| format!("./{file}")));
                continue;
            }
            match self.among.manifests.layer(&layer.value) {
                Some(found) => {
                    policies |= found.policies;
                    self.known.extend(found);
                    layers.push(layer.value.clone());
                }
                None => self.unknown_layer(layer),
            }
        }
        self.open_network = !policies;
        layers
    }

    pub(super) fn unknown_layer(&mut self, layer: &Text) {
        let message = format!("there is no topology `{}`", crate::text::one_line(&layer.value));
        self.places
            .report(layer, message)
            .expected("the name of a directory of manifests, as `flat`, or `./file.yaml` beside the lab");
    }

    /// Reports a port that no Service of this name has.
    pub(super) fn port(&mut self, to: &str, port: &Spanned<u16>) {
        // A pod of its own has no Service, and any port.
        let Some(ports) = self.known.services.get(to) else {
            return;
        };
        if !ports.is_empty() && !ports.contains(&port.value) {
            let known: Vec<String> = ports.iter().map(u16::to_string).collect();
            self.places
                .report(port, format!("the Service `{to}` has no port {}", port.value))
                .expected(one_of(known.iter().map(String::as_str)));
        }
    }

    /// The manifests beside the lab that a path in its file means, in the order they are to be applied; none where the
    /// path is wrong, which is reported.
    pub(super) fn files(&mut self, path: &Text) -> Vec<String> {
        match self.among.find(&path.value) {
            Ok(found) => {
                self.used.extend(found.iter().cloned());
                found
            }
            Err(no) => {
                let report = self.places.report(path, no.message).expected(no.expected);
                if let Some(hint) = no.hint {
                    report.hint(hint);
                }
                Vec::new()
            }
        }
    }

    /// Reads every manifest beside the lab: what any of them makes may be named.
    pub(super) fn read_files(&mut self) {
        for (file, text) in self.among.files {
            match self.among.manifests.read(file, text) {
                Ok(layer) => self.known.extend(layer),
                Err(why) => self.places.beside(file, format!("this is no manifest: {why}")).done(),
            }
        }
    }

    pub(super) fn edge(&mut self, raw: &RawEdge) -> Option<Edge> {
        let (from, to) = (self.workload(&raw.from), self.workload(&raw.to));
        let port = self.within(&raw.port, 1, u16::MAX, "a port");
        if let Some(to) = &to {
            self.port(to.as_str(), &raw.port);
        }
        let path = raw.path.as_ref().map(|path| self.edge_path(path));
        let method = raw.method.as_ref().map(|method| self.method(method));
        Some(Edge {
            from: from?,
            to: to?,
            port: port?,
            path,
            method,
        })
    }

    fn edge_path(&mut self, raw: &Text) -> String {
        if !raw.value.starts_with('/') {
            self.places
                .report(raw, format!("`{}` is no path", crate::text::one_line(&raw.value)))
                .expected("a path from `/` on, as `/charge`");
        }
        self.line(raw)
    }

    fn method(&mut self, raw: &Text) -> String {
        let method = raw.value.as_str();
        if method.is_empty() || method.len() > 16 || !method.chars().all(|c| c.is_ascii_uppercase()) {
            self.places
                .report(raw, format!("`{}` is no HTTP method", crate::text::one_line(method)))
                .expected("a method in capital letters, as `POST`");
        }
        self.line(raw)
    }

    pub(super) fn clusters(&mut self, raw: Option<&Spanned<Vec<Text>>>) -> Vec<String> {
        let Some(raw) = raw else {
            return vec!["main".to_owned()];
        };
        if raw.value.len() != 1 {
            self.places
                .report(raw, format!("the lab wants {} clusters", raw.value.len()))
                .expected("one cluster")
                .hint("labs of several clusters are not possible yet");
        }
        raw.value.iter().filter_map(|name| self.name(name)).collect()
    }
}
