//! `get`.

use http::{HeaderValue, header::ACCEPT};
use kube::{
    Resource,
    api::{DynamicObject, GetParams, ListParams, Request},
};
use serde_json::{Value, json};

use super::{
    FAILED, Failure, Room,
    grammar::{Form, Get, targets},
    kinds::Kind,
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What was asked for of one kind.
struct Found<'a> {
    kind: &'a Kind,
    /// A Table, or a list, or one object.
    document: Value,
}

impl Room<'_> {
    pub async fn get(&self, get: Get) -> Result<u8, Failure> {
        let mut found = Vec::new();
        let mut failed = false;
        for (kind, names) in targets(&get.what).map_err(Failure::Other)? {
            if names.is_empty() || get.all_namespaces {
                for kind in self.kinds.named(&kind).map_err(Failure::Other)? {
                    found.push(self.ask(kind, None, &get).await?);
                }
                continue;
            }
            for name in &names {
                for kind in self.kinds.named(&kind).map_err(Failure::Other)? {
                    match self.ask(kind, Some(name), &get).await {
                        Ok(one) => found.push(one),
                        Err(failure) if failure.is_not_found() => {
                            self.out.note(failure);
                            failed = true;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
        match get.output {
            None | Some(Form::Wide) => self.tables(&found, &get)?,
            Some(Form::Name) => {
                for (kind, item) in found.iter().flat_map(items) {
                    self.out
                        .line(format!("{}/{}", kind.title(), text(item, "/metadata/name")))?;
                }
            }
            Some(form) => self.documents(found, form)?,
        }
        Ok(if failed { FAILED } else { 0 })
    }

    async fn ask<'k>(&self, kind: &'k Kind, name: Option<&str>, get: &Get) -> Result<Found<'k>, Failure> {
        let namespace = (kind.namespaced && !get.all_namespaces).then_some(self.namespace.as_str());
        let requests = Request::new(DynamicObject::url_path(&kind.resource, namespace));
        let request = match name {
            Some(name) => requests.get(name, &GetParams::default()),
            None => {
                let mut params = ListParams::default();
                params.label_selector.clone_from(&get.selector);
                params.field_selector.clone_from(&get.field_selector);
                requests.list(&params)
            }
        };
        let mut request = request.map_err(Failure::other)?;
        if matches!(get.output, None | Some(Form::Wide)) {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(TABLE));
        }
        let document = self.client.request(request).await?;
        Ok(Found { kind, document })
    }

    /// Tables one below the other; those of one kind are one.
    fn tables(&self, found: &[Found<'_>], get: &Get) -> Result<(), Failure> {
        let mut kinds: Vec<&Kind> = Vec::new();
        for one in found.iter().filter(|one| !rows(one).is_empty()) {
            if !kinds.iter().any(|kind| std::ptr::eq(*kind, one.kind)) {
                kinds.push(one.kind);
            }
        }
        let titled = kinds.len() > 1;
        for (at, kind) in kinds.iter().enumerate() {
            if at > 0 {
                self.out.line("")?;
            }
            let of_kind: Vec<&Found<'_>> = found.iter().filter(|one| std::ptr::eq(one.kind, *kind)).collect();
            let wide = get.output == Some(Form::Wide);
            let columns = columns(of_kind[0], wide);
            let with_namespace = get.all_namespaces && kind.namespaced;
            let mut headings: Vec<String> = columns.iter().map(|(_, name)| name.to_uppercase()).collect();
            if with_namespace {
                headings.insert(0, "NAMESPACE".to_owned());
            }
            let mut lines = Vec::new();
            for row in of_kind.iter().flat_map(|one| rows(one)) {
                let mut cells: Vec<String> = columns.iter().map(|(index, _)| cell(row, *index)).collect();
                if titled && let Some(name) = cells.first_mut() {
                    *name = format!("{}/{name}", kind.title());
                }
                if with_namespace {
                    cells.insert(0, text(row, "/object/metadata/namespace").to_owned());
                }
                lines.push(cells);
            }
            let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
            self.out.table(&headings, &lines)?;
        }
        if kinds.is_empty() && !found.is_empty() {
            self.out
                .note(if get.all_namespaces || found.iter().all(|one| !one.kind.namespaced) {
                    "No resources found".to_owned()
                } else {
                    format!("No resources found in {} namespace.", self.namespace)
                });
        }
        Ok(())
    }

    fn documents(&self, found: Vec<Found<'_>>, form: Form) -> Result<(), Failure> {
        let single = found.len() == 1 && found[0].document.get("items").is_none();
        let mut all: Vec<Value> = found
            .iter()
            .flat_map(items)
            .map(|(kind, item)| {
                let mut item = item.clone();
                if let Some(fields) = item.as_object_mut() {
                    // Items of a list do not say what they are.
                    fields.insert("apiVersion".to_owned(), json!(kind.resource.api_version));
                    fields.insert("kind".to_owned(), json!(kind.resource.kind));
                }
                if let Some(metadata) = item.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
                item
            })
            .collect();
        let document = match (single, all.pop()) {
            (true, Some(one)) => one,
            (_, last) => {
                all.extend(last);
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": all})
            }
        };
        let text = match form {
            Form::Yaml => serde_yaml::to_string(&document).map_err(Failure::other)?,
            _ => serde_json::to_string_pretty(&document).map_err(Failure::other)?,
        };
        Ok(self.out.line(text.trim_end())?)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(found: &'a Found<'_>) -> Vec<(&'a Kind, &'a Value)> {
    match found.document.get("items").and_then(Value::as_array) {
        Some(items) => items.iter().map(|item| (found.kind, item)).collect(),
        None => vec![(found.kind, &found.document)],
    }
}

fn rows<'a>(found: &'a Found<'_>) -> &'a [Value] {
    found
        .document
        .get("rows")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The columns that are shown, with their places.
fn columns(found: &Found<'_>, wide: bool) -> Vec<(usize, String)> {
    let definitions = found.document.get("columnDefinitions").and_then(Value::as_array);
    let all = definitions.into_iter().flatten().enumerate();
    let shown = all.filter(|(_, column)| wide || column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0);
    shown
        .map(|(index, column)| (index, text(column, "/name").to_owned()))
        .collect()
}

fn cell(row: &Value, index: usize) -> String {
    match row.get("cells").and_then(|cells| cells.get(index)) {
        None | Some(Value::Null) => "<none>".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
