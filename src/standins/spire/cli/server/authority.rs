//! `spire-server localauthority …`.

use tonic::{Status, transport::Channel};

use crate::{
    api::localauthority::{local_authority_client::LocalAuthorityClient, *},
    cli::{CommandError, Output, as_json, flags::Flags, rpc_error, said, show},
};

/// Calls `$call` and prints its answer, whose field `$field` is the authority that it was done to.
macro_rules! change {
    ($doing:expr, $client:expr, $call:ident($request:expr), $field:ident) => {{
        let answer = $client.$call($request).await.map_err(|status| $doing.failed(&status))?;
        let answer = answer.into_inner();
        if as_json($doing.flags, &answer, $doing.output)? {
            return Ok(());
        }
        $doing.tell(answer.$field)
    }};
}

/// Calls `$call` and prints the three authorities of its answer.
macro_rules! show {
    ($doing:expr, $client:expr, $call:ident($request:expr)) => {{
        let answer = $client.$call($request).await.map_err(|status| $doing.failed(&status))?;
        let answer = answer.into_inner();
        if as_json($doing.flags, &answer, $doing.output)? {
            return Ok(());
        }
        $doing.tell_all([answer.active, answer.prepared, answer.old])
    }};
}

/// A command that is carried out.
struct Doing<'a, 'b> {
    verb: &'a str,
    x509: bool,
    flags: &'a Flags,
    output: &'a mut Output<'b>,
}

/// Runs one: `x509 show`, `jwt taint`.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let (kind, verb) = name.split_once(' ').unwrap_or((name, ""));
    let mut client = LocalAuthorityClient::new(channel);
    let authority_id = flags.text("authorityID").to_owned();
    if !["show", "prepare"].contains(&verb) && authority_id.is_empty() {
        return Err(said("an authority ID is required"));
    }
    let x509 = kind == "x509";
    let mut doing = Doing {
        verb,
        x509,
        flags,
        output,
    };
    match (verb, x509) {
        ("show", true) => show!(doing, client, get_x509_authority_state(GetX509AuthorityStateRequest {})),
        ("show", false) => show!(doing, client, get_jwt_authority_state(GetJwtAuthorityStateRequest {})),
        ("prepare", true) => {
            let request = PrepareX509AuthorityRequest {};
            change!(doing, client, prepare_x509_authority(request), prepared_authority)
        }
        ("prepare", false) => {
            let request = PrepareJwtAuthorityRequest {};
            change!(doing, client, prepare_jwt_authority(request), prepared_authority)
        }
        ("activate", true) => {
            let request = ActivateX509AuthorityRequest { authority_id };
            change!(doing, client, activate_x509_authority(request), activated_authority)
        }
        ("activate", false) => {
            let request = ActivateJwtAuthorityRequest { authority_id };
            change!(doing, client, activate_jwt_authority(request), activated_authority)
        }
        ("taint", true) => {
            let request = TaintX509AuthorityRequest { authority_id };
            change!(doing, client, taint_x509_authority(request), tainted_authority)
        }
        ("taint", false) => {
            let request = TaintJwtAuthorityRequest { authority_id };
            change!(doing, client, taint_jwt_authority(request), tainted_authority)
        }
        (_, true) => {
            let request = RevokeX509AuthorityRequest { authority_id };
            change!(doing, client, revoke_x509_authority(request), revoked_authority)
        }
        (_, false) => {
            let request = RevokeJwtAuthorityRequest { authority_id };
            change!(doing, client, revoke_jwt_authority(request), revoked_authority)
        }
    }
}

impl Doing<'_, '_> {
    fn title(&self) -> &'static str {
        if self.x509 { "X.509" } else { "JWT" }
    }

    fn failed(&self, status: &Status) -> CommandError {
        let what = match self.verb {
            "show" => "get",
            verb => verb,
        };
        let many = if self.verb == "show" {
            "authorities"
        } else {
            "authority"
        };
        said(format!(
            "could not {what} {} {many}: {}",
            self.title(),
            rpc_error(status)
        ))
    }

    fn tell_all(&mut self, states: [Option<AuthorityState>; 3]) -> Result<(), CommandError> {
        let title = self.title();
        for (at, (word, state)) in ["Active", "Prepared", "Old"].into_iter().zip(states).enumerate() {
            if at > 0 {
                writeln!(self.output.out)?;
            }
            writeln!(self.output.out, "{word} {title} authority:")?;
            match state {
                Some(state) => self.print(&state)?,
                None => writeln!(self.output.out, "  No {} {title} authority found", word.to_lowercase())?,
            }
        }
        Ok(())
    }

    fn tell(&mut self, state: Option<AuthorityState>) -> Result<(), CommandError> {
        let word = match self.verb {
            "prepare" => "Prepared",
            "activate" => "Activated",
            "taint" => "Tainted",
            _ => "Revoked",
        };
        writeln!(self.output.out, "{word} {} authority:", self.title())?;
        let state = state.ok_or_else(|| said("the server did not say which"))?;
        self.print(&state)
    }

    fn print(&mut self, state: &AuthorityState) -> Result<(), CommandError> {
        let out = &mut self.output.out;
        writeln!(out, "  Authority ID: {}", state.authority_id)?;
        writeln!(out, "  Expires at: {}", show::time(state.expires_at))?;
        if self.x509 {
            writeln!(out, "  Upstream authority ID: No upstream authority")?;
        }
        Ok(())
    }
}
