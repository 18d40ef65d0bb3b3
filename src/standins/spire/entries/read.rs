//! From an entry that somebody asks for to one that can be kept.

use std::collections::BTreeSet;
use ztlab_identity::{SpiffeId, TrustDomain};

use crate::{
    api::types,
    convert,
    refusal::Refusal,
    store::{Entry, State},
};

/// Most entries that are kept.
const MOST_ENTRIES: usize = 20_000;
/// Most selectors, DNS names or foreign trust domains of one entry.
const MOST_ITEMS: usize = 256;
/// Longest id, hint or selector, in bytes.
const LONGEST_TEXT: usize = 2048;
/// Longest id of an entry, as SPIRE has it.
const LONGEST_ID: usize = 255;

/// A new id for an entry: a UUID of version 4.
pub fn new_id() -> String {
    let bytes: [u8; 16] = rand::Rng::random(&mut rand::rng());
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Reads an entry to be created in `state`. If there is one of the same identity, parent and selectors already, that one
/// is the error's second half.
pub fn create(
    state: &State,
    ours: &TrustDomain,
    message: &types::Entry,
    now: i64,
) -> Result<Entry, (Refusal, Option<Box<Entry>>)> {
    let unread = |refusal: Refusal| (refusal.while_doing("failed to convert entry"), None);
    let alone = |refusal: Refusal| (refusal.while_doing("failed to create entry"), None);
    let mut entry = Entry {
        id: message.id.clone(),
        spiffe_id: workload_id(ours, message.spiffe_id.as_ref()).map_err(unread)?,
        parent_id: member_id(ours, message.parent_id.as_ref()).map_err(unread)?,
        selectors: BTreeSet::new(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: BTreeSet::new(),
        admin: false,
        downstream: false,
        expires_at: 0,
        dns_names: Vec::new(),
        revision: 0,
        store_svid: false,
        hint: String::new(),
        created_at: now,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    };
    apply(&mut entry, ours, message, None).map_err(unread)?;
    bundles_are_known(state, &entry).map_err(alone)?;
    if let Some(same) = similar(state, &entry) {
        return Err((
            Refusal::new(tonic::Code::AlreadyExists, "similar entry already exists"),
            Some(Box::new(same.clone())),
        ));
    }
    if entry.id.is_empty() {
        entry.id = new_id();
    } else if let Some(same) = state.entries.get(&entry.id) {
        return Err((
            Refusal::new(tonic::Code::AlreadyExists, "entry with the same ID already exists"),
            Some(Box::new(same.clone())),
        ));
    } else if entry.id.len() > LONGEST_ID
        || !entry
            .id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Err(alone(Refusal::invalid(
            "datastore-validation: invalid registration entry: entry ID contains invalid characters",
        )));
    }
    if state.entries.len() >= MOST_ENTRIES {
        return Err(alone(Refusal::exhausted(format!(
            "there are {MOST_ENTRIES} entries already; delete some"
        ))));
    }
    Ok(entry)
}

fn similar<'a>(state: &'a State, entry: &Entry) -> Option<&'a Entry> {
    state.entries.values().find(|one| {
        one.spiffe_id == entry.spiffe_id && one.parent_id == entry.parent_id && one.selectors == entry.selectors
    })
}

/// Writes the fields of `mask` (without one, all) into `entry`.
pub fn apply(
    entry: &mut Entry,
    ours: &TrustDomain,
    message: &types::Entry,
    mask: Option<&types::EntryMask>,
) -> Result<(), Refusal> {
    let wanted = |field: fn(&types::EntryMask) -> bool| mask.is_none_or(field);
    if wanted(|mask| mask.spiffe_id) {
        entry.spiffe_id = workload_id(ours, message.spiffe_id.as_ref())?;
    }
    if wanted(|mask| mask.parent_id) {
        entry.parent_id = member_id(ours, message.parent_id.as_ref())?;
    }
    if wanted(|mask| mask.selectors) {
        if message.selectors.is_empty() {
            return Err(Refusal::invalid("selector list is empty"));
        }
        within(message.selectors.len(), "selectors")?;
        entry.selectors = convert::selectors(&message.selectors)?;
        if entry
            .selectors
            .iter()
            .any(|one| one.value.len() > LONGEST_TEXT || one.kind.len() > LONGEST_TEXT)
        {
            return Err(Refusal::invalid(format!(
                "a selector has more than {LONGEST_TEXT} bytes"
            )));
        }
    }
    if wanted(|mask| mask.x509_svid_ttl) {
        entry.x509_svid_ttl = ttl(message.x509_svid_ttl, "X509-SVID")?;
    }
    if wanted(|mask| mask.jwt_svid_ttl) {
        entry.jwt_svid_ttl = ttl(message.jwt_svid_ttl, "JWT-SVID")?;
    }
    if wanted(|mask| mask.federates_with) {
        entry.federates_with = federates_with(ours, &message.federates_with)?;
    }
    if wanted(|mask| mask.dns_names) {
        within(message.dns_names.len(), "DNS names")?;
        for name in &message.dns_names {
            dns_name(name)?;
        }
        entry.dns_names.clone_from(&message.dns_names);
    }
    if wanted(|mask| mask.hint) {
        if message.hint.len() > LONGEST_TEXT {
            return Err(Refusal::invalid(format!("the hint has more than {LONGEST_TEXT} bytes")));
        }
        entry.hint.clone_from(&message.hint);
    }
    if wanted(|mask| mask.expires_at) {
        entry.expires_at = message.expires_at;
    }
    if wanted(|mask| mask.admin) {
        entry.admin = message.admin;
    }
    if wanted(|mask| mask.downstream) {
        entry.downstream = message.downstream;
    }
    if wanted(|mask| mask.store_svid) {
        entry.store_svid = message.store_svid;
    }
    if wanted(|mask| mask.additional_attributes) {
        let attributes = message.additional_attributes.unwrap_or_default();
        entry.disable_x509_svid_prefetch = attributes.disable_x509_svid_prefetch;
        entry.jwt_svid_include_jti = attributes.jwt_svid_include_jti;
    }
    Ok(())
}

fn member_id(ours: &TrustDomain, message: Option<&types::Spiffeid>) -> Result<SpiffeId, Refusal> {
    let id = convert::id(message).map_err(|refusal| refusal.while_doing("invalid parent ID"))?;
    if id.trust_domain() != ours {
        return Err(Refusal::invalid(format!(
            "invalid parent ID: \"{id}\" is not a member of trust domain \"{ours}\""
        )));
    }
    if id.path().is_root() {
        return Err(Refusal::invalid(format!(
            "invalid parent ID: \"{id}\" is not a member of trust domain \"{ours}\"; path is empty"
        )));
    }
    Ok(id)
}

fn workload_id(ours: &TrustDomain, message: Option<&types::Spiffeid>) -> Result<SpiffeId, Refusal> {
    let id = convert::id(message).map_err(|refusal| refusal.while_doing("invalid spiffe ID"))?;
    if id.trust_domain() != ours {
        return Err(Refusal::invalid(format!(
            "invalid spiffe ID: \"{id}\" is not a member of trust domain \"{ours}\""
        )));
    }
    if id.path().is_root() {
        return Err(Refusal::invalid(format!(
            "invalid spiffe ID: \"{id}\" is not a workload in trust domain \"{ours}\"; path is empty"
        )));
    }
    if id.path().segments().next() == Some("spire") {
        return Err(Refusal::invalid(format!(
            "invalid spiffe ID: \"{id}\" is not a workload in trust domain \"{ours}\"; path is in the reserved namespace"
        )));
    }
    Ok(id)
}

fn federates_with(ours: &TrustDomain, names: &[String]) -> Result<BTreeSet<TrustDomain>, Refusal> {
    within(names.len(), "federated trust domains")?;
    let mut read = BTreeSet::new();
    for name in names {
        let name =
            convert::trust_domain(name).map_err(|refusal| refusal.while_doing("invalid federated trust domain"))?;
        if name != *ours {
            read.insert(name);
        }
    }
    Ok(read)
}

/// Whether there is a bundle of each trust domain that an entry federates with; who asks says what could not be done.
pub fn bundles_are_known(state: &State, entry: &Entry) -> Result<(), Refusal> {
    match entry
        .federates_with
        .iter()
        .find(|name| !state.foreign.contains_key(name))
    {
        Some(name) => Err(Refusal::internal(format!(
            "unable to find federated bundle \"spiffe://{name}\""
        ))),
        None => Ok(()),
    }
}

fn ttl(seconds: i32, of: &str) -> Result<u32, Refusal> {
    u32::try_from(seconds).map_err(|_| Refusal::invalid(format!("invalid {of} TTL: {seconds} is below zero")))
}

fn within(count: usize, of: &str) -> Result<(), Refusal> {
    if count > MOST_ITEMS {
        return Err(Refusal::invalid(format!("{count} {of} are more than {MOST_ITEMS}")));
    }
    Ok(())
}

/// A name as RFC 1123 has it, possibly with a wildcard as its first label.
fn dns_name(name: &str) -> Result<(), Refusal> {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.len() <= 253 && rest.split('.').all(label) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("invalid DNS name: `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> TrustDomain {
        TrustDomain::new("shop.test").unwrap()
    }

    fn message() -> types::Entry {
        types::Entry {
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "shop.test".into(),
                path: "/orders".into(),
            }),
            parent_id: Some(types::Spiffeid {
                trust_domain: "shop.test".into(),
                path: "/spire/agent/x".into(),
            }),
            selectors: vec![types::Selector {
                r#type: "k8s".into(),
                value: "ns:shop".into(),
            }],
            ..types::Entry::default()
        }
    }

    fn refused(change: impl FnOnce(&mut types::Entry)) -> String {
        let mut message = message();
        change(&mut message);
        create(&State::default(), &ours(), &message, 0).unwrap_err().0.message
    }

    #[test]
    fn an_entry_without_a_selector_is_refused() {
        assert_eq!(
            refused(|entry| entry.selectors.clear()),
            "failed to convert entry: selector list is empty"
        );
    }

    #[test]
    fn nobody_gets_an_id_of_another_trust_domain_or_of_the_reserved_namespace() {
        let foreign = refused(|entry| entry.spiffe_id.as_mut().unwrap().trust_domain = "evil.test".into());
        assert!(foreign.contains("not a member"), "{foreign}");
        let reserved = refused(|entry| entry.spiffe_id.as_mut().unwrap().path = "/spire/server".into());
        assert!(reserved.contains("reserved"), "{reserved}");
        let root = refused(|entry| entry.spiffe_id.as_mut().unwrap().path.clear());
        assert!(root.contains("path is empty"), "{root}");
        let relative = refused(|entry| entry.spiffe_id.as_mut().unwrap().path = "/a/../b".into());
        assert!(relative.contains("relative"), "{relative}");
    }

    #[test]
    fn a_trust_domain_whose_bundle_is_unknown_cannot_be_federated_with() {
        let message = refused(|entry| entry.federates_with.push("partner.test".into()));
        assert!(message.contains("unable to find federated bundle"), "{message}");
    }

    #[test]
    fn names_that_are_no_dns_names_stay_out_of_certificates() {
        for name in ["", "-a.test", "a..b", "a b", "*", "a.*.b", &"x".repeat(64)] {
            assert!(dns_name(name).is_err(), "{name}");
        }
        for name in ["a", "orders.shop.svc.cluster.local", "*.shop.test"] {
            assert!(dns_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_similar_entry_is_shown_in_place_of_a_second_one() {
        let mut state = State::default();
        let entry = create(&state, &ours(), &message(), 7).unwrap();
        state.entries.insert(entry.id.clone(), entry.clone());
        let (refusal, found) = create(&state, &ours(), &message(), 8).unwrap_err();
        assert_eq!(refusal.code, tonic::Code::AlreadyExists);
        assert_eq!(found.as_deref(), Some(&entry));
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = new_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }
}
