//! What one may grant to others: no more than one has.
//!
//! Source: Kubernetes' "Privilege escalation prevention and bootstrapping", `component-helpers/auth/rbac/validation`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Who, nonresource_matches, rule::entries};

/// Single permissions that are looked at in one check. A role of more grants what nobody can read.
const MAX_PERMISSIONS: usize = 100_000;

/// All there is: what one must have to write an aggregation rule.
pub fn everything() -> Vec<PolicyRule> {
    let all = || Some(vec!["*".to_owned()]);
    vec![
        PolicyRule {
            verbs: vec!["*".to_owned()],
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: vec!["*".to_owned()],
            non_resource_urls: all(),
            ..PolicyRule::default()
        },
    ]
}

/// Refuses to grant `wanted` to whoever only has `owned`.
///
/// # Errors
/// Kubernetes' text, with the permissions that are missing.
pub fn check(who: Who<'_>, owned: &[&PolicyRule], wanted: &[PolicyRule]) -> Result<(), String> {
    let missing = match missing(owned, wanted) {
        Some(missing) if missing.is_empty() => return Ok(()),
        Some(missing) => missing,
        None => {
            return Err(format!(
                "the rules stand for more than {MAX_PERMISSIONS} single permissions: grant fewer in one role"
            ));
        }
    };
    let lines: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    Err(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        who.name,
        quoted(who.groups),
        lines.join("\n")
    ))
}

/// The single permissions of `wanted` that no rule of `owned` covers; `None` when there are too many to look at.
fn missing(owned: &[&PolicyRule], wanted: &[PolicyRule]) -> Option<Vec<PolicyRule>> {
    let mut missing = Vec::new();
    let mut looked_at = 0;
    for rule in wanted {
        // Most rules are covered whole, and need no taking apart.
        if owned.iter().any(|owner| covers(owner, rule)) {
            continue;
        }
        let resources = [
            rule.verbs.len(),
            entries(&rule.api_groups).len(),
            entries(&rule.resources).len(),
        ];
        let names = entries(&rule.resource_names).len().max(1);
        let paths = rule.verbs.len().checked_mul(entries(&rule.non_resource_urls).len())?;
        let count = resources
            .into_iter()
            .chain([names])
            .try_fold(1_usize, usize::checked_mul)?;
        looked_at += count.checked_add(paths)?;
        if looked_at > MAX_PERMISSIONS {
            return None;
        }
        let single = take_apart(rule);
        missing.extend(
            single
                .into_iter()
                .filter(|one| !owned.iter().any(|owner| covers(owner, one))),
        );
    }
    Some(missing)
}

/// One rule for each verb, group, resource and name, and for each verb and path.
pub(super) fn take_apart(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut single = Vec::new();
    let names: Vec<Option<Vec<String>>> = match entries(&rule.resource_names) {
        [] => vec![None],
        names => names.iter().map(|name| Some(vec![name.clone()])).collect(),
    };
    for verb in &rule.verbs {
        for group in entries(&rule.api_groups) {
            for resource in entries(&rule.resources) {
                single.extend(names.iter().map(|name| PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: name.clone(),
                    non_resource_urls: None,
                }));
            }
        }
        single.extend(entries(&rule.non_resource_urls).iter().map(|url| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: Some(vec![url.clone()]),
            ..PolicyRule::default()
        }));
    }
    single
}

/// Whether one rule grants all that another does.
pub(super) fn covers(owner: &PolicyRule, wanted: &PolicyRule) -> bool {
    let all = |have: &[String], want: &[String]| {
        have.iter().any(|one| one == "*") || want.iter().all(|one| have.contains(one))
    };
    let (have, want) = (entries(&owner.resource_names), entries(&wanted.resource_names));
    let names = have.is_empty() || !want.is_empty() && want.iter().all(|name| have.contains(name));
    let urls = entries(&owner.non_resource_urls);
    all(&owner.verbs, &wanted.verbs)
        && all(entries(&owner.api_groups), entries(&wanted.api_groups))
        && resources(entries(&owner.resources), entries(&wanted.resources))
        && names
        && entries(&wanted.non_resource_urls)
            .iter()
            .all(|path| urls.iter().any(|url| nonresource_matches(url, path)))
}

fn resources(have: &[String], want: &[String]) -> bool {
    let has = |wanted: &str| have.iter().any(|one| one == wanted);
    has("*")
        || want.iter().all(|one| {
            has(one)
                || one
                    .split_once('/')
                    .is_some_and(|(_, subresource)| has(&format!("*/{subresource}")))
        })
}

/// Puts together what differs in its verbs alone.
fn compact(single: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut groups: BTreeMap<String, PolicyRule> = BTreeMap::new();
    for rule in single {
        let key = describe(&PolicyRule {
            verbs: Vec::new(),
            ..rule.clone()
        });
        let verbs = rule.verbs.clone();
        let together = groups.entry(key).or_insert_with(|| PolicyRule {
            verbs: Vec::new(),
            ..rule
        });
        for verb in verbs {
            if !together.verbs.contains(&verb) {
                together.verbs.push(verb);
            }
        }
    }
    groups.into_values().collect()
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", entries(&rule.api_groups)),
        ("Resources", entries(&rule.resources)),
        ("NonResourceURLs", entries(&rule.non_resource_urls)),
        ("ResourceNames", entries(&rule.resource_names)),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        PolicyRule {
            verbs: list(verbs),
            api_groups: Some(list(groups)),
            resources: Some(list(resources)),
            resource_names: (!names.is_empty()).then(|| list(names)),
            non_resource_urls: None,
        }
    }

    #[test]
    fn one_grants_what_one_has() {
        for (owned, wanted, expected) in [
            (
                vec![rule("get,list", "", "pods", "")],
                rule("get", "", "pods", ""),
                true,
            ),
            (
                vec![rule("get", "", "pods", ""), rule("list", "", "pods", "")],
                rule("get,list", "", "pods", ""),
                true,
            ),
            (vec![rule("get", "", "pods", "")], rule("get", "", "pods", "x"), true),
            (vec![rule("get", "", "pods", "x")], rule("get", "", "pods", ""), false),
            (
                vec![rule("get", "", "pods", "x")],
                rule("get", "", "pods", "x,y"),
                false,
            ),
            (
                vec![rule("get", "", "pods", "x"), rule("get", "", "pods", "y")],
                rule("get", "", "pods", "x,y"),
                true,
            ),
            (
                vec![rule("*", "*", "*", "")],
                rule("escalate", "apps", "deployments/scale", ""),
                true,
            ),
            (
                vec![rule("get", "apps", "*/scale", "")],
                rule("get", "apps", "deployments/scale", ""),
                true,
            ),
            (
                vec![rule("get", "apps", "deployments", "")],
                rule("get", "apps", "deployments/scale", ""),
                false,
            ),
            (vec![rule("get", "", "pods", "")], rule("*", "", "pods", ""), false),
            (vec![], rule("get", "", "pods", ""), false),
        ] {
            let owned: Vec<&PolicyRule> = owned.iter().collect();
            let who = Who { name: "x", groups: &[] };
            assert_eq!(
                check(who, &owned, std::slice::from_ref(&wanted)).is_ok(),
                expected,
                "{owned:?} {wanted:?}"
            );
        }
        assert!(
            check(
                Who { name: "x", groups: &[] },
                &everything().iter().collect::<Vec<_>>(),
                &everything()
            )
            .is_ok()
        );
    }

    #[test]
    fn what_is_missing_is_said_as_kubernetes_says_it() {
        let groups = ["system:authenticated".to_owned()];
        let who = Who {
            name: "jane",
            groups: &groups,
        };
        let owned = rule("get", "", "pods", "");
        let said = check(who, &[&owned], &[rule("get,list,watch", "", "pods,secrets", "")]).unwrap_err();
        assert_eq!(
            said,
            "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
             held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}\n{APIGroups:[\"\"], \
             Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"watch\"]}"
        );
    }

    #[test]
    fn a_role_of_too_many_permissions_is_refused_before_it_is_taken_apart() {
        let many = (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let who = Who { name: "x", groups: &[] };
        let said = check(who, &[], &[rule(&many, &many, &many, &many)]).unwrap_err();
        assert!(said.contains("more than 100000"), "{said}");
    }
}
