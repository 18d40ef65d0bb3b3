//! `spire-server entry …`.

use tonic::{Code, transport::Channel};

use super::{OUTPUT, SOCKET};
use crate::{
    api::{
        entry::{entry_client::EntryClient, *},
        types,
    },
    cli::{
        CommandError, Output, as_json,
        flags::{Flag, Flags, switch, value},
        said, show,
    },
};

/// Flags of create and update.
pub const CREATE_FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value(
        "entryID",
        "A custom ID for this registration entry (optional); the ID of the record to update",
    ),
    value("parentID", "The SPIFFE ID of this record's parent"),
    value("spiffeID", "The SPIFFE ID that this record represents"),
    value(
        "selector",
        "A colon-delimited type:value selector. Can be used more than once",
    ),
    value(
        "x509SVIDTTL",
        "The lifetime, in seconds, for x509-SVIDs issued based on this registration entry.",
    ),
    value(
        "jwtSVIDTTL",
        "The lifetime, in seconds, for JWT-SVIDs issued based on this registration entry.",
    ),
    value(
        "federatesWith",
        "SPIFFE ID of a trust domain to federate with. Can be used more than once",
    ),
    value(
        "dns",
        "A DNS name that will be included in SVIDs issued based on this entry. Can be used more than once",
    ),
    value(
        "entryExpiry",
        "An expiry, from epoch in seconds, for the resulting registration entry to be pruned",
    ),
    value(
        "hint",
        "The entry hint, used to disambiguate entries with the same SPIFFE ID",
    ),
    switch(
        "node",
        "If set, this entry will be applied to matching nodes rather than workloads",
    ),
    switch(
        "admin",
        "If set, the SPIFFE ID in this entry will be granted access to the SPIRE Server's management APIs",
    ),
    switch(
        "downstream",
        "A boolean value that, when set, indicates that the entry describes a downstream SPIRE server",
    ),
    switch(
        "storeSVID",
        "A boolean value that, when set, indicates that the resulting issued SVID must be stored",
    ),
    switch(
        "disableX509SVIDPrefetch",
        "Disables prefetching X509 SVID for this entry",
    ),
    switch(
        "jwtSVIDIncludeJTI",
        "Includes a unique 'jti' claim in JWT-SVIDs issued for this entry",
    ),
];

/// Flags of show and count.
pub const SHOW_FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value("entryID", "The Entry ID of the records to show"),
    value("parentID", "The Parent ID of the records to show"),
    value("spiffeID", "The SPIFFE ID of the records to show"),
    value(
        "selector",
        "A colon-delimited type:value selector. Can be used more than once",
    ),
    value(
        "federatesWith",
        "SPIFFE ID of a trust domain an entry is federate with. Can be used more than once",
    ),
    value(
        "matchFederatesWithOn",
        "The match mode used when filtering by federates with. Options: exact, any, superset and subset",
    ),
    value(
        "matchSelectorsOn",
        "The match mode used when filtering by selectors. Options: exact, any, superset and subset",
    ),
    value("hint", "The Hint of the records to show (optional)"),
    switch(
        "downstream",
        "A boolean value that, when set, indicates that the entry describes a downstream SPIRE server",
    ),
];

/// Runs one.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let mut client = EntryClient::new(channel);
    match name {
        "create" => create(&mut client, flags, output).await,
        "update" => update(&mut client, flags, output).await,
        "delete" => delete(&mut client, flags, output).await,
        "count" => count(&mut client, flags, output).await,
        _ => show_entries(&mut client, flags, output).await,
    }
}

fn entry(flags: &Flags, update: bool) -> Result<types::Entry, CommandError> {
    if update && flags.text("entryID").is_empty() {
        return Err(said("entry ID is required"));
    }
    if flags.all("selector").is_empty() {
        return Err(said("at least one selector is required"));
    }
    let node = flags.on("node") && !update;
    if node && !flags.all("federatesWith").is_empty() {
        return Err(said("node entries can not federate"));
    }
    if flags.text("parentID").is_empty() && !node {
        return Err(said(if update {
            "a parent ID is required"
        } else {
            "a parent ID is required if the node flag is not set"
        }));
    }
    if flags.text("spiffeID").is_empty() {
        return Err(said("a SPIFFE ID is required"));
    }
    let spiffe_id = show::id_message(flags.text("spiffeID"))?;
    let parent_id = if node {
        types::Spiffeid {
            trust_domain: spiffe_id.trust_domain.clone(),
            path: "/spire/server".into(),
        }
    } else {
        show::id_message(flags.text("parentID"))?
    };
    let attributes = types::entry::AdditionalAttributes {
        disable_x509_svid_prefetch: flags.on("disableX509SVIDPrefetch"),
        jwt_svid_include_jti: flags.on("jwtSVIDIncludeJTI"),
    };
    Ok(types::Entry {
        id: flags.text("entryID").into(),
        spiffe_id: Some(spiffe_id),
        parent_id: Some(parent_id),
        selectors: show::selectors(flags.all("selector"))?,
        x509_svid_ttl: ttl(flags, "x509SVIDTTL", "x509-SVID")?,
        jwt_svid_ttl: ttl(flags, "jwtSVIDTTL", "JWT-SVID")?,
        federates_with: flags.all("federatesWith").to_vec(),
        admin: flags.on("admin"),
        downstream: flags.on("downstream"),
        expires_at: flags.number("entryExpiry", 0)?,
        dns_names: flags.all("dns").to_vec(),
        store_svid: flags.on("storeSVID"),
        hint: flags.text("hint").into(),
        additional_attributes: (attributes != types::entry::AdditionalAttributes::default()).then_some(attributes),
        ..types::Entry::default()
    })
}

fn ttl(flags: &Flags, name: &str, of: &str) -> Result<i32, CommandError> {
    let seconds = flags.number(name, 0)?;
    if seconds < 0 {
        return Err(said(format!("a positive {of} TTL is required")));
    }
    i32::try_from(seconds).map_err(|_| said(format!("invalid value for {of} TTL: {seconds}")))
}

async fn create(client: &mut EntryClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let entry = entry(flags, false)?;
    let request = BatchCreateEntryRequest {
        entries: vec![entry.clone()],
        output_mask: None,
    };
    let answer = client.batch_create_entry(request).await?.into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let results = answer.results.into_iter().map(|one| (one.status, one.entry));
    tell("create", entry, results, output)
}

async fn update(client: &mut EntryClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let entry = entry(flags, true)?;
    let request = BatchUpdateEntryRequest {
        entries: vec![entry.clone()],
        ..Default::default()
    };
    let answer = client.batch_update_entry(request).await?.into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let results = answer.results.into_iter().map(|one| (one.status, one.entry));
    tell("update", entry, results, output)
}

fn tell(
    verb: &str,
    asked: types::Entry,
    results: impl Iterator<Item = (Option<types::Status>, Option<types::Entry>)>,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut failed = false;
    for (status, entry) in results {
        let status = status.unwrap_or_default();
        if status.code == 0 {
            write!(output.out, "{}", show::entry(&entry.unwrap_or_default()))?;
            continue;
        }
        failed = true;
        writeln!(
            output.err,
            "Failed to {verb} the following entry (code: {}, msg: {:?}):",
            show::code_name(Code::from_i32(status.code)),
            status.message
        )?;
        write!(output.err, "{}", show::entry(&asked))?;
    }
    if failed {
        Err(said(format!("failed to {verb} one or more entries")))
    } else {
        Ok(())
    }
}

async fn delete(client: &mut EntryClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let id = flags.text("entryID");
    if id.is_empty() {
        return Err(said("an entry ID is required"));
    }
    let answer = client
        .batch_delete_entry(BatchDeleteEntryRequest { ids: vec![id.into()] })
        .await?
        .into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    for one in answer.results {
        let status = one.status.unwrap_or_default();
        if status.code == 0 {
            write!(
                output.out,
                "Deleted entry with ID: {}\n\n\nDeleted 1 entries successfully",
                one.id
            )?;
            continue;
        }
        writeln!(
            output.err,
            "Failed to delete entry with ID {} (code: {}, msg: {:?})",
            one.id,
            show::code_name(Code::from_i32(status.code)),
            status.message
        )?;
        write!(output.out, "\n\nFailed to delete 1 entries")?;
        return Err(said("failed to delete one or more entries"));
    }
    Ok(())
}

fn filter(flags: &Flags) -> Result<list_entries_request::Filter, CommandError> {
    let id = |name: &str, of: &str| match flags.text(name) {
        "" => Ok(None),
        text => show::id_message(text)
            .map(Some)
            .map_err(|error| said(format!("error parsing {of} {text:?}: {error}"))),
    };
    let selectors = flags.all("selector");
    let federates_with = flags.all("federatesWith");
    Ok(list_entries_request::Filter {
        by_spiffe_id: id("spiffeID", "SPIFFE ID")?,
        by_parent_id: id("parentID", "parent ID")?,
        by_selectors: (!selectors.is_empty())
            .then(|| {
                Ok::<_, CommandError>(types::SelectorMatch {
                    selectors: show::selectors(selectors)?,
                    r#match: show::match_behavior(flags.text("matchSelectorsOn"))?,
                })
            })
            .transpose()?,
        by_federates_with: (!federates_with.is_empty())
            .then(|| {
                Ok::<_, CommandError>(types::FederatesWithMatch {
                    trust_domains: federates_with.to_vec(),
                    r#match: show::match_behavior(flags.text("matchFederatesWithOn"))?,
                })
            })
            .transpose()?,
        by_hint: (!flags.text("hint").is_empty()).then(|| flags.text("hint").to_owned()),
        // As SPIRE asks: without the flag, for those that are no downstream server's.
        by_downstream: Some(flags.on("downstream")),
    })
}

async fn show_entries(
    client: &mut EntryClient<Channel>,
    flags: &Flags,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let id = flags.text("entryID");
    let mut entries = if id.is_empty() {
        let request = ListEntriesRequest {
            filter: Some(filter(flags)?),
            ..Default::default()
        };
        client.list_entries(request).await?.into_inner().entries
    } else {
        if flags.any_but(&["entryID", "socketPath", "output"]) {
            return Err(said("the -entryID flag can't be combined with others"));
        }
        let request = GetEntryRequest {
            id: id.into(),
            output_mask: None,
        };
        let found = client.get_entry(request).await.map_err(|status| {
            said(format!(
                "error fetching entry ID {id}: {}",
                crate::cli::rpc_error(&status)
            ))
        })?;
        vec![found.into_inner()]
    };
    entries.sort_by_cached_key(|entry| {
        (
            show::id(entry.spiffe_id.as_ref()),
            show::id(entry.parent_id.as_ref()),
            entry.id.clone(),
        )
    });
    let answer = ListEntriesResponse {
        entries,
        next_page_token: String::new(),
    };
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let entries = answer.entries;
    writeln!(
        output.out,
        "Found {} {}",
        entries.len(),
        show::plural(entries.len(), "entry", "entries")
    )?;
    for entry in &entries {
        write!(output.out, "{}", show::entry(entry))?;
    }
    Ok(())
}

async fn count(client: &mut EntryClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let filter = filter(flags)?;
    let filter = count_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
    };
    let answer = client
        .count_entries(CountEntriesRequest { filter: Some(filter) })
        .await?
        .into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let count = answer.count;
    let many = usize::try_from(count).unwrap_or(0);
    writeln!(
        output.out,
        "{count} registration {}",
        show::plural(many, "entry", "entries")
    )?;
    Ok(())
}
