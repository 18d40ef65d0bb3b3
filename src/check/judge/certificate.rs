//! What certificates and keys say, and whether they belong together.

use crate::{
    check::{CertificateFound, Certificates},
    evidence::{CertificateFacts, date, signed_by},
    lab::{CertificateCheck, CertificateRules, Store},
    verdict::{Finding, Judgement, Verdict},
};

const DAY: i64 = 86_400;

/// What rules ask of a certificate, in words.
pub(super) fn describe(rules: &CertificateRules) -> String {
    let mut parts = Vec::new();
    parts.extend(rules.subject.as_ref().map(|name| format!("is for {name}")));
    parts.extend(rules.issuer.as_ref().map(|name| format!("was signed by {name}")));
    parts.extend(rules.ca.map(|ca| {
        let words = if ca { "is an authority's" } else { "is no authority's" };
        words.to_owned()
    }));
    parts.extend(rules.path_length.map(|length| format!("has the path length {length}")));
    parts.extend(rules.self_signed.map(|own| {
        let words = if own {
            "is signed by its own key"
        } else {
            "is not signed by its own key"
        };
        words.to_owned()
    }));
    if !rules.names.is_empty() {
        parts.push(format!("names {}", rules.names.join(", ")));
    }
    let usage: Vec<&str> = rules
        .key_usage
        .iter()
        .chain(&rules.extended_key_usage)
        .map(String::as_str)
        .collect();
    if !usage.is_empty() {
        parts.push(format!("is for {}", usage.join(", ")));
    }
    parts.extend(rules.at_most_days.map(|days| format!("lives at most {days} days")));
    parts.extend(rules.at_least_days.map(|days| format!("is valid for {days} more days")));
    parts.push(if rules.expired { "is expired" } else { "is valid now" }.to_owned());
    parts.join(", ")
}

pub(super) fn expected(check: &CertificateCheck) -> String {
    let mut parts = vec![describe(&check.rules)];
    parts.extend(
        check
            .signed_by
            .as_ref()
            .map(|store| format!("was signed by the one in {store}")),
    );
    parts.extend(check.key.as_ref().map(|store| format!("belongs to the key in {store}")));
    if check.key_not_in_cluster {
        parts.push("its private key is in no Secret and no ConfigMap".to_owned());
    }
    format!("the certificate in {} {}", place(&check.store), parts.join(", "))
}

fn place(store: &Store) -> String {
    match store {
        Store::File(path) => format!("the file {path} of your work directory"),
        other => other.to_string(),
    }
}

pub(super) fn judge(check: &CertificateCheck, found: &Certificates) -> Judgement {
    let say = |verdict, finding, said: String| {
        Judgement::new(verdict, finding, expected(check), crate::text::one_line(&said))
    };
    let certificate = match &found.certificate {
        Ok(certificate) => certificate,
        Err(why) if why.ends_with("is not there") => {
            return say(Verdict::Undetermined, Finding::NoCertificate, why.clone());
        }
        Err(why) => return say(Verdict::Failed, Finding::NoCertificate, why.clone()),
    };
    let judgement = match wrong(check, found, certificate) {
        Some((finding, said)) => say(Verdict::Failed, finding, said),
        None => say(Verdict::Passed, Finding::Expected, certificate.facts.describe()),
    };
    judgement.with_evidence([format!(
        "{}: {}, SHA-256 {}",
        check.store,
        certificate.facts.describe(),
        certificate.facts.fingerprint
    )])
}

/// The first thing that is wrong with a certificate, or with what it must belong to.
fn wrong(check: &CertificateCheck, found: &Certificates, certificate: &CertificateFound) -> Option<(Finding, String)> {
    if let Some(broken) = broken_rule(&check.rules, &certificate.facts, found.now) {
        return Some(broken);
    }
    match &found.signer {
        Some(Ok(signer)) => {
            if let Err(why) = signed_by(&certificate.der, &signer.der) {
                return Some((Finding::NotSigned, why));
            }
            if !signer.facts.may_sign() {
                let why = format!("{} signed it, and may not: it is no authority", signer.facts.subject);
                return Some((Finding::NotSigned, why));
            }
        }
        Some(Err(why)) => return Some((Finding::NoCertificate, why.clone())),
        None => {}
    }
    match &found.key {
        Some(Ok(public)) if *public != certificate.facts.key => {
            return Some((
                Finding::OtherKey,
                "the private key belongs to another certificate".to_owned(),
            ));
        }
        Some(Err(why)) => return Some((Finding::OtherKey, why.clone())),
        Some(Ok(_)) | None => {}
    }
    let exposed = found
        .keys
        .iter()
        .flatten()
        .find(|key| key.public == certificate.facts.key);
    exposed.map(|key| (Finding::KeyExposed, format!("its private key is in {}", key.at)))
}

/// The first rule that a certificate breaks.
pub(super) fn broken_rule(rules: &CertificateRules, facts: &CertificateFacts, now: i64) -> Option<(Finding, String)> {
    let other = |said: String| Some((Finding::OtherCertificate, said));
    if let Some(subject) = &rules.subject
        && facts.common_name.as_ref() != Some(subject)
    {
        return other(format!("its subject is {}", named(&facts.subject)));
    }
    if let Some(issuer) = &rules.issuer
        && facts.issuer_common_name.as_ref() != Some(issuer)
    {
        return other(format!("it was signed by {}", named(&facts.issuer)));
    }
    if let Some(ca) = rules.ca
        && ca != (facts.ca == Some(true))
    {
        return other(match (ca, facts.ca) {
            (true, None) => "it has no basic constraints, so it is no authority's".to_owned(),
            (true, _) => "it says that it is no authority's (CA:FALSE)".to_owned(),
            (false, _) => "it is an authority's (CA:TRUE)".to_owned(),
        });
    }
    if let Some(length) = rules.path_length
        && facts.path_length != Some(length)
    {
        return other(match facts.path_length {
            Some(found) => format!("its path length is {found}"),
            None => "it sets no path length".to_owned(),
        });
    }
    if let Some(own) = rules.self_signed
        && own != facts.self_signed
    {
        return other(if own {
            format!("{} signed it", named(&facts.issuer))
        } else {
            "its own key signed it".to_owned()
        });
    }
    if let Some(missing) = lacking(&rules.key_usage, facts.key_usage.as_deref(), "key usage") {
        return other(missing);
    }
    let extended = facts.extended_key_usage.as_deref();
    if let Some(missing) = lacking(&rules.extended_key_usage, extended, "extended key usage") {
        return other(missing);
    }
    if let Some(missing) = rules.names.iter().find(|name| !names(facts, name)) {
        let found: Vec<&str> = facts.names().collect();
        return other(if found.is_empty() {
            format!("it has no alternative names, so not {missing}")
        } else {
            format!("it does not name {missing}, but {}", found.join(", "))
        });
    }
    lifetime(rules, facts, now)
}

fn lifetime(rules: &CertificateRules, facts: &CertificateFacts, now: i64) -> Option<(Finding, String)> {
    let over = now > facts.not_after;
    if now < facts.not_before {
        let said = format!("it is not valid before {}", date(facts.not_before));
        return Some((Finding::Expired, said));
    }
    if over != rules.expired {
        let said = if over {
            format!("it ended on {}", date(facts.not_after))
        } else {
            format!("it is valid until {}", date(facts.not_after))
        };
        return Some((Finding::Expired, said));
    }
    let days = |seconds: i64| seconds / DAY;
    let whole = facts.not_after.saturating_sub(facts.not_before);
    // A day more for whoever rounds up.
    if let Some(most) = rules.at_most_days
        && days(whole) > i64::from(most) + 1
    {
        return Some((Finding::OtherCertificate, format!("it lives {} days", days(whole))));
    }
    let left = facts.not_after.saturating_sub(now);
    if let Some(least) = rules.at_least_days
        && left < i64::from(least) * DAY
    {
        return Some((
            Finding::OtherCertificate,
            format!("it is valid for {} more days", days(left)),
        ));
    }
    None
}

fn named(name: &str) -> &str {
    if name.is_empty() { "nobody" } else { name }
}

/// Whether a certificate has an alternative name; DNS names without regard to case.
fn names(facts: &CertificateFacts, name: &str) -> bool {
    facts.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name))
        || facts.uris.iter().any(|uri| uri == name)
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|wanted| facts.addresses.iter().any(|found| found.parse() == Ok(wanted)))
}

fn lacking(wanted: &[String], found: Option<&[String]>, what: &str) -> Option<String> {
    let missing = wanted
        .iter()
        .find(|word| !found.is_some_and(|found| found.contains(word)))?;
    Some(match found {
        None => format!("it has no {what}, so not {missing}"),
        Some(found) => format!("its {what} is {}, not {missing}", found.join(", ")),
    })
}
