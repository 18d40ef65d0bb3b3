//! `spire-server agent …` and `token generate`.

use tonic::transport::Channel;

use super::{OUTPUT, SOCKET};
use crate::{
    api::{
        agent::{agent_client::AgentClient, *},
        types,
    },
    cli::{
        CommandError, Output, as_json,
        flags::{Flag, Flags, value},
        said, show,
    },
};

/// Flags of all of them.
pub const FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value("spiffeID", "The SPIFFE ID of the agent"),
    value(
        "selector",
        "A colon-delimited type:value selector. Can be used more than once",
    ),
    value(
        "matchSelectorsOn",
        "The match mode used when filtering by selectors. Options: exact, any, superset and subset",
    ),
    value(
        "attestationType",
        "Filter by attestation type, like join_token or x509pop.",
    ),
    value(
        "banned",
        "Filter based on string received, 'true': banned agents, 'false': not banned agents, other value will return all.",
    ),
    value(
        "canReattest",
        "Filter based on string received, 'true': agents that can reattest, 'false': agents that can't reattest, other value will return all.",
    ),
    value(
        "expiresBefore",
        "Filter by expiration time (format: \"2006-01-02 15:04:05 -0700 -07\")",
    ),
];

/// Runs one.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let mut client = AgentClient::new(channel);
    match name {
        "list" => list(&mut client, flags, output).await,
        "count" => count(&mut client, flags, output).await,
        _ => one(name, &mut client, flags, output).await,
    }
}

fn filter(flags: &Flags) -> Result<list_agents_request::Filter, CommandError> {
    let selectors = flags.all("selector");
    let tristate = |name: &str| match flags.text(name) {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    Ok(list_agents_request::Filter {
        by_attestation_type: flags.text("attestationType").into(),
        by_selector_match: (!selectors.is_empty())
            .then(|| {
                Ok::<_, CommandError>(types::SelectorMatch {
                    selectors: show::selectors(selectors)?,
                    r#match: show::match_behavior(flags.text("matchSelectorsOn"))?,
                })
            })
            .transpose()?,
        by_banned: tristate("banned"),
        by_can_reattest: tristate("canReattest"),
        by_expires_before: flags.text("expiresBefore").into(),
    })
}

async fn list(client: &mut AgentClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let request = ListAgentsRequest {
        filter: Some(filter(flags)?),
        ..Default::default()
    };
    let answer = client.list_agents(request).await?.into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let agents = answer.agents;
    if agents.is_empty() {
        writeln!(output.out, "No attested agents found")?;
        return Ok(());
    }
    writeln!(
        output.out,
        "Found {} attested {}:\n",
        agents.len(),
        show::plural(agents.len(), "agent", "agents")
    )?;
    for agent in &agents {
        print(agent, output)?;
    }
    Ok(())
}

fn print(agent: &types::Agent, output: &mut Output<'_>) -> Result<(), CommandError> {
    writeln!(output.out, "SPIFFE ID         : {}", show::id(agent.id.as_ref()))?;
    writeln!(output.out, "Attestation type  : {}", agent.attestation_type)?;
    writeln!(
        output.out,
        "Expiration time   : {}",
        show::time(agent.x509svid_expires_at)
    )?;
    if agent.banned {
        writeln!(output.out, "Banned            : true")?;
    } else {
        writeln!(output.out, "Serial number     : {}", agent.x509svid_serial_number)?;
    }
    writeln!(output.out, "Can re-attest     : {}", agent.can_reattest)?;
    if !agent.agent_version.is_empty() {
        writeln!(output.out, "Agent version     : {}", agent.agent_version)?;
    }
    writeln!(output.out)?;
    Ok(())
}

async fn count(client: &mut AgentClient<Channel>, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let filter = filter(flags)?;
    let filter = count_agents_request::Filter {
        by_attestation_type: filter.by_attestation_type,
        by_selector_match: filter.by_selector_match,
        by_banned: filter.by_banned,
        by_can_reattest: filter.by_can_reattest,
        by_expires_before: filter.by_expires_before,
    };
    let answer = client
        .count_agents(CountAgentsRequest { filter: Some(filter) })
        .await?
        .into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let count = answer.count;
    let many = usize::try_from(count).unwrap_or(0);
    writeln!(output.out, "{count} attested {}", show::plural(many, "agent", "agents"))?;
    Ok(())
}

async fn one(
    name: &str,
    client: &mut AgentClient<Channel>,
    flags: &Flags,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    if flags.text("spiffeID").is_empty() {
        return Err(said("a SPIFFE ID is required"));
    }
    let id = Some(show::id_message(flags.text("spiffeID"))?);
    match name {
        "evict" => {
            client.delete_agent(DeleteAgentRequest { id }).await?;
            done(flags, "Agent evicted successfully", output)?;
        }
        "ban" => {
            client.ban_agent(BanAgentRequest { id }).await?;
            done(flags, "Agent banned successfully", output)?;
        }
        _ => {
            let agent = client
                .get_agent(GetAgentRequest { id, output_mask: None })
                .await?
                .into_inner();
            if as_json(flags, &agent, output)? {
                return Ok(());
            }
            writeln!(output.out, "Found an attested agent given its SPIFFE ID\n")?;
            print(&agent, output)?;
            for selector in &agent.selectors {
                writeln!(output.out, "Selectors         : {}:{}", selector.r#type, selector.value)?;
            }
        }
    }
    Ok(())
}

/// What has no answer but that it is done: an empty message.
fn done(flags: &Flags, words: &str, output: &mut Output<'_>) -> Result<(), CommandError> {
    if !as_json(flags, &serde_json::Map::new(), output)? {
        writeln!(output.out, "{words}")?;
    }
    Ok(())
}

/// `token generate`.
pub async fn token(channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let spiffe_id = flags.text("spiffeID");
    let ttl = flags.number("ttl", 600)?;
    let request = CreateJoinTokenRequest {
        ttl: i32::try_from(ttl).map_err(|_| said(format!("invalid value for TTL: {ttl}")))?,
        token: String::new(),
        agent_id: (!spiffe_id.is_empty())
            .then(|| show::id_message(spiffe_id))
            .transpose()?,
    };
    let token = AgentClient::new(channel).create_join_token(request).await?.into_inner();
    if as_json(flags, &token, output)? {
        return Ok(());
    }
    writeln!(output.out, "Token: {}", token.value)?;
    if spiffe_id.is_empty() {
        writeln!(output.out, "Warning: Missing SPIFFE ID.")?;
    }
    Ok(())
}
