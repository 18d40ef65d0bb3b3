//! What single steps need of a ground.

use super::Validator;
use crate::lab::{
    model::{Capability, Edge, call_and_stranger},
    raw::{OneOr, RawStep},
};

impl Validator<'_> {
    /// Notes whether the calls that a lab declares are enough to measure a network with.
    pub(super) fn note_edges(&mut self, edges: &[Edge]) {
        self.measurable = call_and_stranger(edges).is_some();
    }

    pub(super) fn step_capabilities(&mut self, raw: &RawStep) -> Vec<Capability> {
        let mut found = Vec::new();
        for name in &raw.capabilities {
            let Some(capability) = self.named(name, Capability::ALL) else {
                continue;
            };
            if capability == Capability::PodAddresses && !self.measurable {
                self.places
                    .report(
                        name,
                        "with the lab's `edges` nobody can measure whether a ground can do that",
                    )
                    .expected("a call in `edges`, and a third workload there that does not call the same")
                    .rule("not-measurable");
            }
            found.push(capability);
        }
        self.lint_addresses(raw, &found);
        found
    }

    /// A policy that lets in a pod by its address works on some networks only.
    fn lint_addresses(&mut self, raw: &RawStep, can: &[Capability]) {
        if self.lint.is_none() || can.contains(&Capability::PodAddresses) {
            return;
        }
        let attempts = raw.wrong.iter().flat_map(|attempt| &attempt.value.actions);
        for action in raw.solution.iter().chain(attempts) {
            if let Some(apply) = &action.value.apply
                && let OneOr::Fields(fields) = &apply.value
                && let Some(yaml) = &fields.yaml
                && yaml.value.contains("ipBlock")
                && yaml.value.contains("${address/")
            {
                self.places
                    .report(
                        yaml,
                        "an `ipBlock` is to match a pod, which Kubernetes leaves to each network",
                    )
                    .expected("`capabilities: [pod-addresses]` in this step")
                    .hint("where a network does not do so, the step is not asked of a student")
                    .rule("pod-by-address");
                return;
            }
        }
    }
}
