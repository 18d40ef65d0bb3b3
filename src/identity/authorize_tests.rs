//! Who is let in, and who is not.

use proptest::prelude::*;

use super::*;

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn allowed(rules: &str, who: &str) -> bool {
    rules.parse::<Authorizer>().unwrap().decide(&id(who)).is_allowed()
}

#[test]
fn the_default_is_to_deny() {
    for nobody in [Authorizer::default(), Authorizer::deny_all()] {
        let decision = nobody.decide(&id("spiffe://shop.test/orders"));
        assert_eq!(
            decision.to_string(),
            "denied: spiffe://shop.test/orders is not authorised: no rule lets anyone in"
        );
        assert!(!decision.is_allowed());
    }
}

#[test]
fn an_id_is_compared_whole() {
    let rule = "spiffe://shop.test/ns/shop/sa/orders";
    assert!(allowed(rule, rule));
    for other in [
        "spiffe://shop.test/ns/shop/sa/orders-fake",
        "spiffe://shop.test/ns/shop/sa/order",
        "spiffe://shop.test/ns/shop/sa/orders/admin",
        "spiffe://shop.test/ns/shop/sa/Orders",
        "spiffe://evil.test/ns/shop/sa/orders",
        "spiffe://shop.test.evil/ns/shop/sa/orders",
        "spiffe://evil.test/shop.test/ns/shop/sa/orders",
        "spiffe://shop.test/ns/shop/sa",
        "spiffe://shop.test",
    ] {
        assert!(!allowed(rule, other), "{other}");
    }
}

#[test]
fn a_path_lets_in_what_is_under_it_by_whole_segments() {
    let rule = "spiffe://shop.test/ns/shop/*";
    assert!(allowed(rule, "spiffe://shop.test/ns/shop/sa/orders"));
    assert!(allowed(rule, "spiffe://shop.test/ns/shop/a"));
    for other in [
        "spiffe://shop.test/ns/shop",
        "spiffe://shop.test/ns/shop-evil/sa/orders",
        "spiffe://shop.test/ns/shopevil",
        "spiffe://shop.test/ns",
        "spiffe://shop.test/x/ns/shop/a",
        "spiffe://evil.test/ns/shop/sa/orders",
    ] {
        assert!(!allowed(rule, other), "{other}");
    }
}

#[test]
fn a_trust_domain_lets_in_its_workloads() {
    let rule = "spiffe://shop.test/*";
    assert!(allowed(rule, "spiffe://shop.test/a/b"));
    for other in [
        "spiffe://shop.test",
        "spiffe://eu.shop.test/a",
        "spiffe://shop.test.evil/a",
        "spiffe://shop.tes/a",
    ] {
        assert!(!allowed(rule, other), "{other}");
    }
}

#[test]
fn the_answer_says_why() {
    let rules: Authorizer = "spiffe://a.test/x, spiffe://a.test/y/*\nspiffe://b.test/*"
        .parse()
        .unwrap();
    let said = |who| rules.decide(&id(who)).to_string();
    assert_eq!(said("spiffe://a.test/y/z"), "allowed by spiffe://a.test/y/*");
    assert!(said("spiffe://a.test/z").contains("none of the 2 rules for the trust domain a.test"));
    assert!(said("spiffe://b.test").contains("the one rule for the trust domain b.test"));
    assert!(said("spiffe://c.test/x").contains("anyone of the trust domain c.test"));
    let by = rules.decide(&id("spiffe://b.test/q"));
    let rule = Rule::TrustDomain(TrustDomain::new("b.test").unwrap());
    assert_eq!(by, Decision::Allowed { by: rule });
}

#[test]
fn what_is_no_rule_is_refused() {
    for (text, part) in [
        ("", "no rule is given"),
        (" ,\n ", "no rule is given"),
        ("*", "no rule"),
        ("/*", "SPIFFE ID is empty"),
        ("spiffe://*", "is no rule"),
        ("spiffe:///*", "trust domain is missing"),
        ("spiffe://shop.test", "write spiffe://shop.test/* to let in"),
        ("spiffe://shop.test/", "ends with a slash"),
        ("spiffe://shop.test/orders*", "may not contain '*'"),
        ("spiffe://shop.test/*/orders", "may not contain '*'"),
        ("spiffe://shop.test//*", "ends with a slash"),
        ("spiffe://shop.test/a spiffe://shop.test/.*", "may not contain '*'"),
        ("orders", "does not begin with spiffe://"),
    ] {
        let error = text.parse::<Authorizer>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let many = "spiffe://shop.test/a ".repeat(1025);
    assert_eq!(many.parse::<Authorizer>().unwrap_err(), RuleError::TooMany);
}

#[test]
fn rules_are_text_in_files() {
    for text in ["spiffe://a.test/x", "spiffe://a.test/y/*", "spiffe://a.test/*"] {
        let rule: Rule = text.parse().unwrap();
        assert_eq!(rule.to_string(), text);
        assert_eq!(serde_json::to_value(&rule).unwrap(), text);
        assert_eq!(serde_json::from_value::<Rule>(text.into()).unwrap(), rule);
    }
    let built = Authorizer::deny_all().allow("spiffe://a.test/x".parse().unwrap());
    assert_eq!(built, "spiffe://a.test/x".parse().unwrap());
    assert_eq!(built.rules().len(), 1);
}

/// Short ids of few letters, so that one is often near another.
fn near() -> impl Strategy<Value = String> {
    ("[ab]{1,2}", prop::collection::vec("[ab]{1,2}", 1..4))
        .prop_map(|(domain, segments)| format!("spiffe://{domain}/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn an_id_admits_itself_alone(rule in near(), who in near()) {
        prop_assert_eq!(allowed(&rule, &who), rule == who);
    }

    #[test]
    fn a_path_admits_what_continues_it_with_a_slash(rule in near(), who in near()) {
        prop_assert_eq!(allowed(&format!("{rule}/*"), &who), who.starts_with(&format!("{rule}/")));
    }

    #[test]
    fn a_rule_more_takes_nothing_away(rules in prop::collection::vec(near(), 1..4), who in near(), more in near()) {
        let before: Authorizer = rules.join(",").parse().unwrap();
        let after = before.clone().allow(format!("{more}/*").parse().unwrap());
        let (before, after) = (before.decide(&id(&who)), after.decide(&id(&who)));
        prop_assert!(after.is_allowed() || !before.is_allowed());
    }

    #[test]
    fn any_text_is_rules_or_refused(text in any::<String>()) {
        if let Ok(authorizer) = text.parse::<Authorizer>() {
            let written: Vec<_> = authorizer.rules().iter().map(Rule::to_string).collect();
            prop_assert_eq!(written.join(",").parse::<Authorizer>().unwrap(), authorizer);
        }
    }
}
