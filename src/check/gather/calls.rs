//! The student's own calls, from the callees' access logs.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};

use super::{GatherError, Scene, pods};
use crate::{
    check::{Call, Calls, Evidence, Refused},
    lab::{DatabaseCheck, HttpCheck, Source, Target},
};

/// The most lines of a log that are read.
const LINES: i64 = 5000;

pub(super) async fn http(scene: &Scene, check: &HttpCheck) -> Result<Evidence, GatherError> {
    let callee = match &check.to {
        // The Service of a workload has its name.
        Target::Service(name) => Source::parse(name).ok_or_else(|| GatherError::NoPod(name.clone()))?,
        Target::Pod(source) => source.clone(),
        Target::Address(_) | Target::Host(_) => {
            return Err(GatherError::Missing(format!("{} keeps no access log here", check.to)));
        }
    };
    let control = check.control.as_ref().and_then(|control| control.from.as_ref());
    calls(scene, &check.from, &callee, control).await
}

pub(super) async fn database(scene: &Scene, check: &DatabaseCheck) -> Result<Evidence, GatherError> {
    calls(scene, &check.from, &Source::Workload(check.to.clone()), None).await
}

async fn calls(scene: &Scene, from: &Source, to: &Source, control: Option<&Source>) -> Result<Evidence, GatherError> {
    let text = |pods: &[Pod]| pods::addresses(pods).iter().map(ToString::to_string).collect();
    let callers = pods::pods_of_source(&scene.client, &scene.namespace, from).await?;
    let callees = pods::pods_of_source(&scene.client, &scene.namespace, to).await?;
    let api: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let mut calls = Calls {
        from: text(&callers),
        control: match control {
            Some(control) => text(&pods::pods_of_source(&scene.client, &scene.namespace, control).await?),
            None => Vec::new(),
        },
        ..Calls::default()
    };
    for pod in &callees {
        let (Some(name), Some(spec)) = (&pod.metadata.name, &pod.spec) else {
            continue;
        };
        let params = LogParams {
            container: spec.containers.first().map(|container| container.name.clone()),
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        let log = api
            .logs(name, &params)
            .await
            .map_err(GatherError::api(format!("read the log of {name}")))?;
        calls.callees += 1;
        calls.calls.extend(log.lines().filter_map(Call::read));
        calls.refused.extend(log.lines().filter_map(Refused::read));
    }
    Ok(Evidence::Calls(calls))
}
