//! `spire-server localauthority …`.

use tonic::transport::Channel;

use crate::{
    api::localauthority::{local_authority_client::LocalAuthorityClient, *},
    cli::{CommandError, Output, as_json, flags::Flags, said, show},
};

/// Runs one: `x509 show`, `jwt taint`.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let (kind, verb) = name.split_once(' ').unwrap_or((name, ""));
    let x509 = kind == "x509";
    let title = if x509 { "X.509" } else { "JWT" };
    let mut client = LocalAuthorityClient::new(channel);
    let authority_id = flags.text("authorityID").to_owned();
    if !["show", "prepare"].contains(&verb) && authority_id.is_empty() {
        return Err(said("an authority ID is required"));
    }
    match verb {
        "show" => {
            let states = if x509 {
                let answer = client
                    .get_x509_authority_state(GetX509AuthorityStateRequest {})
                    .await?
                    .into_inner();
                if as_json(flags, &answer, output)? {
                    return Ok(());
                }
                [answer.active, answer.prepared, answer.old]
            } else {
                let answer = client
                    .get_jwt_authority_state(GetJwtAuthorityStateRequest {})
                    .await?
                    .into_inner();
                if as_json(flags, &answer, output)? {
                    return Ok(());
                }
                [answer.active, answer.prepared, answer.old]
            };
            for (at, (word, state)) in ["Active", "Prepared", "Old"].into_iter().zip(states).enumerate() {
                if at > 0 {
                    writeln!(output.out)?;
                }
                writeln!(output.out, "{word} {title} authority:")?;
                match state {
                    Some(state) => print(&state, x509, output)?,
                    None => writeln!(output.out, "  No {} {title} authority found", word.to_lowercase())?,
                }
            }
            Ok(())
        }
        "prepare" => {
            let state = if x509 {
                client
                    .prepare_x509_authority(PrepareX509AuthorityRequest {})
                    .await?
                    .into_inner()
                    .prepared_authority
            } else {
                client
                    .prepare_jwt_authority(PrepareJwtAuthorityRequest {})
                    .await?
                    .into_inner()
                    .prepared_authority
            };
            tell("Prepared", title, state, x509, output)
        }
        "activate" => {
            let state = if x509 {
                let request = ActivateX509AuthorityRequest { authority_id };
                client
                    .activate_x509_authority(request)
                    .await?
                    .into_inner()
                    .activated_authority
            } else {
                let request = ActivateJwtAuthorityRequest { authority_id };
                client
                    .activate_jwt_authority(request)
                    .await?
                    .into_inner()
                    .activated_authority
            };
            tell("Activated", title, state, x509, output)
        }
        "taint" => {
            let state = if x509 {
                client
                    .taint_x509_authority(TaintX509AuthorityRequest { authority_id })
                    .await?
                    .into_inner()
                    .tainted_authority
            } else {
                client
                    .taint_jwt_authority(TaintJwtAuthorityRequest { authority_id })
                    .await?
                    .into_inner()
                    .tainted_authority
            };
            tell("Tainted", title, state, x509, output)
        }
        _ => {
            let state = if x509 {
                client
                    .revoke_x509_authority(RevokeX509AuthorityRequest { authority_id })
                    .await?
                    .into_inner()
                    .revoked_authority
            } else {
                client
                    .revoke_jwt_authority(RevokeJwtAuthorityRequest { authority_id })
                    .await?
                    .into_inner()
                    .revoked_authority
            };
            tell("Revoked", title, state, x509, output)
        }
    }
}

fn tell(
    word: &str,
    title: &str,
    state: Option<AuthorityState>,
    x509: bool,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    writeln!(output.out, "{word} {title} authority:")?;
    let state = state.ok_or_else(|| said("the server did not say which"))?;
    print(&state, x509, output)
}

fn print(state: &AuthorityState, x509: bool, output: &mut Output<'_>) -> Result<(), CommandError> {
    writeln!(output.out, "  Authority ID: {}", state.authority_id)?;
    writeln!(output.out, "  Expires at: {}", show::time(state.expires_at))?;
    if x509 {
        writeln!(output.out, "  Upstream authority ID: No upstream authority")?;
    }
    Ok(())
}
