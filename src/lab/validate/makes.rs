//! What a lab makes beyond its namespace: on a cluster that others use too, nothing of it may be left behind, and nothing of
//! theirs may be taken for it.

use std::collections::BTreeSet;

use super::Validator;
use crate::lab::{
    Placed,
    model::Makes,
    raw::{OneOr, RawAction, RawApply, RawMakes, RawSpec, Spanned, Text},
};

/// The most objects that one message names.
const NAMED: usize = 4;

impl Validator<'_> {
    pub(super) fn makes(&mut self, raw: &[Spanned<RawMakes>]) -> Option<Vec<Makes>> {
        let all: Vec<_> = raw.iter().map(|one| self.one_made(one)).collect();
        all.into_iter().collect()
    }

    fn one_made(&mut self, raw: &Spanned<RawMakes>) -> Option<Makes> {
        match &raw.value {
            RawMakes {
                layer: Some(layer),
                api_version: None,
                kind: None,
                name: None,
            } => {
                if self.among.manifests.layer(&layer.value).is_some() {
                    return Some(Makes::Layer(layer.value.clone()));
                }
                self.unknown_layer(layer);
                None
            }
            RawMakes {
                layer: None,
                api_version,
                kind: Some(kind),
                name: Some(name),
            } => {
                let object = self.named_object(kind, name, api_version.as_ref())?;
                let version = object.api_version.as_deref().unwrap_or("v1");
                let placed = self.placed(version, &object.kind, &object.name);
                if placed.is_empty() {
                    self.places
                        .report(raw, format!("a {} belongs to a namespace", object.kind))
                        .expected("an object of the whole cluster, as a `ClusterRole` or a `Namespace`")
                        .hint("what is in a namespace goes with it: name the namespace")
                        .rule("makes-in-namespace");
                }
                Some(Makes::Object {
                    api_version: object.api_version,
                    kind: object.kind,
                    name: object.name,
                })
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what is made")
                    .expected("either `layer: NAME`, or `kind` and `name`")
                    .rule("makes-what");
                None
            }
        }
    }

    /// The object of a name, where it is not in the lab's namespace because no other is given.
    fn placed(&self, api_version: &str, kind: &str, name: &str) -> BTreeSet<Placed> {
        let object = serde_json::json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name } });
        let read = self.among.manifests.read("the object", &object.to_string());
        read.map(|layer| layer.placed).unwrap_or_default()
    }

    /// Reports what the topology and the actions make beyond the lab's namespace and the lab does not say it makes.
    pub(super) fn lint_made(&mut self, spec: &RawSpec) {
        let mut declared = BTreeSet::new();
        for raw in &spec.makes {
            let RawMakes {
                layer,
                api_version,
                kind,
                name,
            } = &raw.value;
            if let Some(layer) = layer
                .as_ref()
                .and_then(|layer| self.among.manifests.layer(&layer.value))
            {
                declared.extend(layer.placed);
            }
            if let (Some(kind), Some(name)) = (kind, name) {
                let version = api_version.as_ref().map_or("v1", |version| version.value.as_str());
                declared.extend(self.placed(version, &kind.value, &name.value));
            }
        }
        let topology: BTreeSet<Placed> = spec
            .topology
            .value
            .iter()
            .flat_map(|layer| self.placed_of(layer))
            .collect();
        // Namespaces that the topology makes are the lab's, and can have a prefix.
        let own: BTreeSet<Placed> = topology.iter().filter(|one| one.kind == "Namespace").cloned().collect();
        let known = [spec.namespace.value.as_str()]
            .into_iter()
            .chain(own.iter().map(|one| one.name.as_str()))
            .collect();
        let namespace = &spec.namespace;
        if namespace.value != "default" && !own.iter().any(|one| one.name == namespace.value) {
            self.places
                .report(namespace, format!("nothing makes the namespace `{}`", namespace.value))
                .expected("a Namespace of this name in the topology")
                .hint(
                    "every built-in topology has the namespace `shop`; write a manifest of kind Namespace for another",
                )
                .rule("no-namespace");
        }
        self.undeclared(&spec.topology, &topology, &declared, &known);
        for step in &spec.steps.value {
            let wrong = step.wrong.iter().flat_map(|attempt| &attempt.value.actions);
            for action in step.solution.iter().chain(wrong) {
                let made = self.made_by(&action.value);
                self.undeclared(action, &made, &declared, &known);
            }
        }
    }

    fn undeclared<T>(
        &mut self,
        at: &Spanned<T>,
        made: &BTreeSet<Placed>,
        declared: &BTreeSet<Placed>,
        known: &BTreeSet<&str>,
    ) {
        let is_said = |one: &Placed| {
            let within = |namespace: &Placed| namespace.kind == "Namespace" && one.within(&namespace.name);
            known.iter().any(|namespace| one.within(namespace)) || declared.contains(one) || declared.iter().any(within)
        };
        let open: Vec<String> = made.iter().filter(|one| !is_said(one)).map(Placed::to_string).collect();
        let Some(first) = open.first() else { return };
        let mut named = open.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if open.len() > NAMED {
            named = format!("{named} and {} more", open.len() - NAMED);
        }
        let (kind, name) = first.split_once(' ').unwrap_or(("Namespace", first));
        let hint = match name.split_once('/') {
            Some((namespace, _)) => format!("`makes: [{{ kind: Namespace, name: {namespace} }}]`"),
            None => format!("`makes: [{{ kind: {kind}, name: {name} }}]`, or `{{ layer: NAME }}` for all of a layer"),
        };
        self.places
            .report(at, format!("this makes what is not in the lab's namespace: {named}"))
            .expected("nothing but what `makes` says")
            .hint(format!(
                "on a cluster that others use it would be left behind; say it in {hint}"
            ))
            .rule("undeclared-object");
    }

    /// What a layer of the topology has.
    fn placed_of(&self, layer: &Text) -> BTreeSet<Placed> {
        if layer.value.contains('/') {
            return self.placed_in(&layer.value);
        }
        let layer = self.among.manifests.layer(&layer.value);
        layer.map(|layer| layer.placed).unwrap_or_default()
    }

    /// What the files of a path have.
    fn placed_in(&self, path: &str) -> BTreeSet<Placed> {
        let files = self.among.find(path).unwrap_or_default();
        let read = |file: String| self.among.manifests.read(&file, &self.among.files[&file]).ok();
        files
            .into_iter()
            .filter_map(read)
            .flat_map(|layer| layer.placed)
            .collect()
    }

    /// What an action makes, changes or deletes.
    fn made_by(&self, action: &RawAction) -> BTreeSet<Placed> {
        let mut made = BTreeSet::new();
        match action.apply.as_ref().map(|apply| &apply.value) {
            Some(OneOr::Word(path)) => made.extend(self.placed_in(path)),
            Some(OneOr::Fields(RawApply { layer, yaml })) => {
                made.extend(layer.iter().flat_map(|layer| self.placed_of(layer)));
                let read = yaml
                    .as_ref()
                    .map(|yaml| self.among.manifests.read("the manifest", &yaml.value));
                made.extend(read.and_then(Result::ok).map(|layer| layer.placed).unwrap_or_default());
            }
            None => {}
        }
        let version = |version: &Option<Text>| version.as_ref().map_or("v1".to_owned(), |text| text.value.clone());
        if let Some(patch) = &action.patch {
            let patch = &patch.value;
            made.extend(self.placed(&version(&patch.api_version), &patch.kind.value, &patch.name.value));
        }
        if let Some(delete) = &action.delete
            && delete.value.namespace.is_none()
        {
            let delete = &delete.value;
            made.extend(self.placed(&version(&delete.api_version), &delete.kind.value, &delete.name.value));
        }
        made
    }
}
