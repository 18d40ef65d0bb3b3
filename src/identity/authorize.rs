//! Who is authorised: rules over SPIFFE IDs, and an answer that says why.
//!
//! The default is to deny. Ids are compared whole and paths by whole segments, never by a part of their text:
//! `spiffe://evil/ns/shop/sa/orders` and `/ns/shop/sa/orders-fake` are other ids, whatever they hold.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{IdError, Path, SpiffeId, TrustDomain};

/// Rules that are taken from one text.
const MOST_RULES: usize = 1024;

/// Which peers are let in. As text: an id, or one that ends with `/*` for everything under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// This id and no other: `spiffe://shop.test/ns/shop/sa/orders`.
    Id(SpiffeId),
    /// Every workload of this trust domain: `spiffe://shop.test/*`.
    TrustDomain(TrustDomain),
    /// Every workload of the trust domain whose path continues this one by whole segments: `spiffe://shop.test/ns/shop/*`.
    /// The path itself is not meant.
    Under(TrustDomain, Path),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// What stands there, but for the last `/*`, is no SPIFFE ID.
    #[error("{text:?} is no rule: {error}; write an id, or spiffe://trust-domain/path/* for all that is under a path")]
    Id {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        error: IdError,
    },
    /// An id that no workload has.
    #[error("{0} is a trust domain, which no workload is: write {0}/* to let in all of its workloads")]
    NoPath(SpiffeId),
    /// Nothing is let in by an empty list; that is said by no list at all.
    #[error("no rule is given: name the SPIFFE IDs that may connect")]
    Empty,
    /// More than anyone can oversee.
    #[error("there are more than {MOST_RULES} rules: let in a path instead of each id")]
    TooMany,
}

impl Rule {
    fn admits(&self, id: &SpiffeId) -> bool {
        match self {
            Rule::Id(wanted) => wanted == id,
            Rule::TrustDomain(wanted) => wanted == id.trust_domain() && !id.path().is_root(),
            Rule::Under(domain, prefix) => {
                domain == id.trust_domain() && id.path().is_under(prefix) && id.path() != prefix
            }
        }
    }

    fn trust_domain(&self) -> &TrustDomain {
        match self {
            Rule::Id(id) => id.trust_domain(),
            Rule::TrustDomain(domain) | Rule::Under(domain, _) => domain,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Id(id) => write!(f, "{id}"),
            Rule::TrustDomain(domain) => write!(f, "{}/*", domain.id()),
            Rule::Under(domain, path) => write!(f, "{}{path}/*", domain.id()),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let (name, all) = match text.strip_suffix("/*") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let id = SpiffeId::parse(name).map_err(|error| RuleError::Id {
            text: text.chars().take(200).collect(),
            error,
        })?;
        match (all, id.path().is_root()) {
            (false, false) => Ok(Rule::Id(id)),
            (false, true) => Err(RuleError::NoPath(id)),
            (true, true) => Ok(Rule::TrustDomain(id.trust_domain().clone())),
            (true, false) => Ok(Rule::Under(id.trust_domain().clone(), id.path().clone())),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What an authorizer answers, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let in.
    Allowed {
        /// By this rule, the first that admits it.
        by: Rule,
    },
    /// Not let in.
    Denied {
        /// In words, for a log.
        why: String,
    },
}

impl Decision {
    /// Whether the peer is let in.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Allowed { by } => write!(f, "allowed by {by}"),
            Decision::Denied { why } => write!(f, "denied: {why}"),
        }
    }
}

/// Decides whether a peer that proved its SPIFFE ID may connect. Without rules nobody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorizer(Vec<Rule>);

impl Authorizer {
    /// Lets nobody in.
    pub fn deny_all() -> Authorizer {
        Authorizer::default()
    }

    /// Also lets in who this rule admits.
    #[must_use]
    pub fn allow(mut self, rule: Rule) -> Authorizer {
        self.0.push(rule);
        self
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Whether the peer of this id is let in, and by which rule or why not.
    pub fn decide(&self, id: &SpiffeId) -> Decision {
        match self.0.iter().find(|rule| rule.admits(id)) {
            Some(rule) => Decision::Allowed { by: rule.clone() },
            None => Decision::Denied { why: self.why_not(id) },
        }
    }

    fn why_not(&self, id: &SpiffeId) -> String {
        if self.0.is_empty() {
            return format!("{id} is not authorised: no rule lets anyone in");
        }
        let domain = id.trust_domain();
        let known = self.0.iter().filter(|rule| rule.trust_domain() == domain).count();
        match known {
            0 => format!("{id} is not authorised: no rule lets in anyone of the trust domain {domain}"),
            1 => format!("{id} is not authorised: the one rule for the trust domain {domain} does not admit it"),
            _ => format!("{id} is not authorised: none of the {known} rules for the trust domain {domain} admits it"),
        }
    }
}

/// Rules divided by commas or white space, as a setting has them; at least one.
impl FromStr for Authorizer {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Authorizer, RuleError> {
        let words = text.split(|char: char| char == ',' || char.is_whitespace());
        let mut rules = Vec::new();
        for word in words.filter(|word| !word.is_empty()) {
            if rules.len() == MOST_RULES {
                return Err(RuleError::TooMany);
            }
            rules.push(word.parse()?);
        }
        if rules.is_empty() {
            return Err(RuleError::Empty);
        }
        Ok(Authorizer(rules))
    }
}

#[cfg(test)]
#[path = "authorize_tests.rs"]
mod tests;
