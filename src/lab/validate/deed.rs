//! What ztlab changes in the cluster and in the work directory, to solve a step or to try what does not.

use std::{collections::BTreeMap, time::Duration};

use super::{Validator, check::transpose};
use crate::lab::{
    model::{Action, Applied, Authority, Deed, Kept, Named, Says, WorkPath, data_key},
    raw::{
        OneOr, RawAction, RawApply, RawAuthority, RawCheck, RawDelete, RawFile, RawKept, RawLabel, RawMade, RawPatch,
        RawRunPod, RawScale, RawStep, RawWaitFor, Spanned, Text,
    },
};

/// The most keys of a Secret, labels, or names of a certificate.
const MOST: usize = 64;
/// The most replicas that a Deployment is scaled to.
const REPLICAS: u32 = 10;
/// The longest wait, in seconds.
const WAIT: u32 = 60;
/// The image of a pod that nobody named one for.
const TOOLBOX: &str = "ztlab.dev/toolbox";

impl Validator<'_> {
    /// What the layers make that actions apply may be named too.
    pub(super) fn applied_layers(&mut self, steps: &[RawStep]) {
        for step in steps {
            let wrong = step.wrong.iter().flat_map(|attempt| &attempt.value.actions);
            for action in step.solution.iter().chain(wrong) {
                if let Some(apply) = &action.value.apply
                    && let OneOr::Fields(RawApply { layer: Some(layer), .. }) = &apply.value
                    && let Some(found) = self.among.manifests.layer(&layer.value)
                {
                    self.known.extend(found);
                }
            }
        }
    }

    /// Each deed that an action asks for; `None` for one that is wrong.
    pub(super) fn deeds(&mut self, action: &RawAction) -> Vec<Option<Action>> {
        let deeds = [
            action.apply.as_ref().map(|apply| self.apply(apply).map(Deed::Apply)),
            action.delete.as_ref().map(|delete| self.delete(delete)),
            action.label.as_ref().map(|label| self.label(label)),
            action.patch.as_ref().map(|patch| self.patch(patch)),
            action.scale.as_ref().map(|scale| self.scale(scale)),
            action
                .restart
                .as_ref()
                .map(|name| self.object_name(name).map(Deed::Restart)),
            action.run_pod.as_ref().map(|pod| self.run_pod(pod)),
            action.ca.as_ref().map(|authority| self.authority(authority)),
            action.certificate.as_ref().map(|made| self.made(made)),
            action.secret.as_ref().map(|kept| self.kept(kept, Kept::Secret)),
            action.configmap.as_ref().map(|kept| self.kept(kept, Kept::ConfigMap)),
            action.file.as_ref().map(|file| self.file(file)),
        ];
        deeds.into_iter().flatten().map(|deed| deed.map(Action::Deed)).collect()
    }

    fn apply(&mut self, raw: &Spanned<OneOr<RawApply>>) -> Option<Applied> {
        match &raw.value {
            OneOr::Word(path) => {
                let files = self.files(&Spanned::new(path.clone(), raw.at));
                (!files.is_empty()).then_some(Applied::Files(files))
            }
            OneOr::Fields(RawApply {
                layer: Some(layer),
                yaml: None,
            }) => {
                if self.among.manifests.layer(&layer.value).is_some() {
                    return Some(Applied::Layer(layer.value.clone()));
                }
                self.unknown_layer(layer);
                None
            }
            OneOr::Fields(RawApply {
                layer: None,
                yaml: Some(yaml),
            }) => {
                let text = self.filled(yaml, false);
                if let Err(why) = self.among.manifests.read("the manifest", &text) {
                    self.places
                        .report(yaml, "this is no manifest")
                        .expected("Kubernetes objects in YAML")
                        .hint(why)
                        .rule("no-manifest");
                }
                Some(Applied::Text(text))
            }
            OneOr::Fields(_) => {
                self.places
                    .report(raw, "it is not clear what is applied")
                    .expected("the path of a file beside the lab, `layer: NAME` or `yaml: …`")
                    .rule("apply-kind");
                None
            }
        }
    }

    pub(super) fn named_object(&mut self, kind: &Text, name: &Text, api_version: Option<&Text>) -> Option<Named> {
        let kind_name = self.line(kind);
        if kind_name.is_empty() || !kind_name.chars().all(|c| c.is_ascii_alphanumeric()) {
            self.places
                .report(kind, format!("`{}` is no kind", crate::text::one_line(&kind.value)))
                .expected("a kind, as `NetworkPolicy`")
                .rule("no-kind");
        }
        Some(Named {
            api_version: api_version.map(|version| self.line(version)),
            kind: kind_name,
            name: self.object_name(name)?,
            namespace: None,
        })
    }

    fn delete(&mut self, raw: &Spanned<RawDelete>) -> Option<Deed> {
        let delete = &raw.value;
        let namespace = delete.namespace.as_ref().map(|name| self.object_name(name));
        let named = self.named_object(&delete.kind, &delete.name, delete.api_version.as_ref());
        Some(Deed::Delete(Named {
            namespace: match namespace {
                Some(namespace) => Some(namespace?),
                None => None,
            },
            ..named?
        }))
    }

    fn label(&mut self, raw: &Spanned<RawLabel>) -> Option<Deed> {
        let source = self.source(&raw.value.pod);
        if raw.value.set.is_empty() && raw.value.remove.is_empty() {
            self.places
                .report(raw, "no label is changed")
                .expected("`set`, `remove`, or both")
                .rule("no-label");
        }
        Some(Deed::Label {
            source: source?,
            set: self.labels(&raw.value.set),
            remove: raw.value.remove.iter().map(|label| self.line(label)).collect(),
        })
    }

    fn labels(&mut self, raw: &BTreeMap<String, Text>) -> BTreeMap<String, String> {
        raw.iter()
            .take(MOST)
            .map(|(key, value)| (key.clone(), self.line(value)))
            .collect()
    }

    fn patch(&mut self, raw: &Spanned<RawPatch>) -> Option<Deed> {
        let patch = &raw.value;
        let object = self.named_object(&patch.kind, &patch.name, patch.api_version.as_ref());
        if patch.patch.value.as_object().is_none_or(serde_json::Map::is_empty) {
            self.places
                .report(&patch.patch, "the patch changes nothing")
                .expected("fields, as in the object's manifest: `{ spec: { replicas: 2 } }`")
                .rule("no-patch");
        }
        Some(Deed::Patch {
            object: object?,
            patch: patch.patch.value.clone(),
        })
    }

    fn scale(&mut self, raw: &RawScale) -> Option<Deed> {
        let deployment = self.object_name(&raw.deployment);
        let replicas = self.within(&raw.replicas, 0, REPLICAS, "replicas");
        Some(Deed::Scale {
            deployment: deployment?,
            replicas: replicas?,
        })
    }

    fn run_pod(&mut self, raw: &RawRunPod) -> Option<Deed> {
        Some(Deed::RunPod {
            name: self.object_name(&raw.name)?,
            image: raw
                .image
                .as_ref()
                .map_or_else(|| TOOLBOX.to_owned(), |image| self.line(image)),
            labels: self.labels(&raw.labels),
            run: raw.run.iter().map(|word| self.text(word)).collect(),
        })
    }

    fn authority(&mut self, raw: &RawAuthority) -> Option<Deed> {
        let out = self.work_path(&raw.out);
        let name = self.short(&raw.name);
        let days = self.days(raw.days.as_ref(), 365);
        Some(Deed::Certificate {
            out: out?,
            says: Says {
                name: name?,
                names: Vec::new(),
                days: days?,
                expired: false,
                authority: Some(Authority {
                    flag: raw.ca_flag.unwrap_or(true),
                    path_length: raw.path_length,
                }),
                server: false,
                client: false,
            },
            authority: None,
        })
    }

    fn days(&mut self, raw: Option<&Spanned<u32>>, usual: u32) -> Option<u32> {
        raw.map_or(Some(usual), |days| self.within(days, 1, 36_500, "days"))
    }

    fn made(&mut self, raw: &Spanned<RawMade>) -> Option<Deed> {
        let made = &raw.value;
        let out = self.work_path(&made.out);
        let authority = transpose(made.ca.as_ref().map(|ca| self.work_path(ca)));
        let name = self.short(&made.name);
        let days = self.days(made.days.as_ref(), 30);
        if made.ca.is_some() == made.self_signed {
            self.places
                .report(raw, "it is not clear who signs the certificate")
                .expected("exactly one of `ca` and `selfSigned: true`")
                .rule("who-signs");
        }
        let mut uses = [made.usage.is_none(), made.usage.is_none()];
        for word in made.usage.iter().flatten() {
            if let Some(at) = self.named(word, &[("server-auth", 0), ("client-auth", 1)]) {
                uses[at] = true;
            }
        }
        let names = made
            .names
            .as_ref()
            .map(|names| names.iter().take(MOST).map(|name| self.line(name)).collect::<Vec<_>>());
        let (name, [server, client]) = (name?, uses);
        Some(Deed::Certificate {
            out: out?,
            says: Says {
                names: names.unwrap_or_else(|| vec![name.clone()]),
                name,
                days: days?,
                expired: made.expired,
                authority: None,
                server,
                client,
            },
            authority: authority?,
        })
    }

    fn kept(&mut self, raw: &Spanned<RawKept>, kind: Kept) -> Option<Deed> {
        let kept = &raw.value;
        let name = self.object_name(&kept.name);
        let count = kept.from.len() + kept.text.len();
        let twice = kept.from.keys().any(|key| kept.text.contains_key(key));
        let strange = kept.from.keys().chain(kept.text.keys()).any(|key| !data_key(key));
        if count == 0 || count > MOST || twice || strange {
            self.places
                .report(raw, "these are no keys for it")
                .expected(format!(
                    "`from` (files) and `text`: 1 to {MOST} keys of letters, digits, `.`, `_` and `-`, each once"
                ))
                .rule("no-keys");
        }
        let files: Vec<_> = kept
            .from
            .iter()
            .map(|(key, path)| Some((key.clone(), self.work_path(path)?)))
            .collect();
        let texts = kept
            .text
            .iter()
            .map(|(key, text)| (key.clone(), self.filled(text, false)))
            .collect();
        Some(Deed::Keep {
            kind,
            name: name?,
            files: files.into_iter().collect::<Option<BTreeMap<String, WorkPath>>>()?,
            texts,
        })
    }

    fn file(&mut self, raw: &RawFile) -> Option<Deed> {
        let path = self.work_path(&raw.path);
        let text = self.filled(&raw.text, false);
        Some(Deed::File { path: path?, text })
    }

    pub(super) fn wait_action(&mut self, raw: &Spanned<RawWaitFor>, checks: &[Spanned<RawCheck>]) -> Option<Action> {
        let wait = &raw.value;
        match (&wait.ready, &wait.seconds, &wait.check) {
            (Some(deployment), None, None) => {
                let deployment = self.object_name(deployment)?;
                Some(Action::Deed(Deed::Ready(deployment)))
            }
            (None, Some(seconds), None) => {
                let seconds = self.within(seconds, 1, WAIT, "seconds")?;
                Some(Action::Wait(Duration::from_secs(seconds.into())))
            }
            (None, seconds, Some(check)) => {
                let known: Vec<&str> = checks.iter().map(|check| check.value.name.value.as_str()).collect();
                let check = self.check_named(check, &known);
                let seconds = seconds
                    .as_ref()
                    .map_or(Some(WAIT), |seconds| self.within(seconds, 1, WAIT, "seconds"));
                Some(Action::Until {
                    check: check?,
                    within: Duration::from_secs(seconds?.into()),
                })
            }
            _ => {
                self.places
                    .report(raw, "it is not clear what is waited for")
                    .expected("exactly one of `ready: DEPLOYMENT`, `seconds: 2` and `check: NAME`")
                    .rule("wait-kind");
                None
            }
        }
    }
}
