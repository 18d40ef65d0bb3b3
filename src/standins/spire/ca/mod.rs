//! The certificate authority: which key signs, and what it signs.
//!
//! Authorities rotate as SPIRE's do: at half the life of the one that signs, the next is prepared (published in the
//! bundle, not signing), and with a sixth of that life left it is activated. The published one is thus known everywhere
//! before anything it signed is seen.

mod jwt;
mod request;
mod rotation;
mod x509;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use jwt::JwtSigner;
pub use request::SigningRequest;
pub use rotation::{Due, due};
pub use x509::{Leaf, LeafOf, Subject, X509Signer};
use ztlab_identity::{SpiffeId, TrustDomain};

use crate::{
    clock::SharedClock,
    refusal::Refusal,
    store::{self, Slot, Standing, State, Store},
};

/// How often rotation is looked at.
pub const TICK: Duration = Duration::from_secs(10);
/// How long an authority stays in the bundle after its end, at most; no longer than it lived.
const KEPT_AFTER_END: i64 = 24 * 3600;

/// What the authority signs by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose authority it is.
    pub trust_domain: TrustDomain,
    /// Life of an authority.
    pub ca_ttl: Duration,
    /// Life of an X.509-SVID whose entry does not say.
    pub x509_svid_ttl: Duration,
    /// Life of a JWT-SVID whose entry does not say.
    pub jwt_svid_ttl: Duration,
    /// Life of an agent's SVID.
    pub agent_ttl: Duration,
    /// The authority's name.
    pub subject: Subject,
    /// The `iss` of JWT-SVIDs.
    pub jwt_issuer: Option<String>,
}

/// Which of the two kinds of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Signs certificates.
    X509,
    /// Signs tokens.
    Jwt,
}

impl Kind {
    fn slots(self, state: &State) -> &Vec<Slot> {
        match self {
            Self::X509 => &state.x509_slots,
            Self::Jwt => &state.jwt_slots,
        }
    }

    fn slots_mut(self, state: &mut State) -> &mut Vec<Slot> {
        match self {
            Self::X509 => &mut state.x509_slots,
            Self::Jwt => &mut state.jwt_slots,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::X509 => "X.509 authority",
            Self::Jwt => "JWT authority",
        }
    }
}

/// The server's authorities.
pub struct Authorities {
    store: Arc<Store>,
    clock: SharedClock,
    settings: Settings,
    signing: Mutex<Signing>,
}

/// The signers of the active authorities, kept so that a key is read once.
#[derive(Default)]
struct Signing {
    x509: Option<Arc<X509Signer>>,
    jwt: Option<Arc<JwtSigner>>,
}

impl Authorities {
    /// The authorities in `store`. Those whose key is gone (a key manager in memory, after a restart) sign no more.
    pub fn new(store: Arc<Store>, clock: SharedClock, settings: Settings) -> Result<Self, Refusal> {
        store.update_keys(|state, keys| {
            for kind in [Kind::X509, Kind::Jwt] {
                kind.slots_mut(state).retain(|slot| keys.get(&slot.id).is_some());
            }
            Ok(())
        })?;
        let authorities = Self {
            store,
            clock,
            settings,
            signing: Mutex::default(),
        };
        authorities.tick()?;
        Ok(authorities)
    }

    /// What they sign by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Prepares and activates what is due, and forgets what is long over.
    pub fn tick(&self) -> Result<(), Refusal> {
        for kind in [Kind::X509, Kind::Jwt] {
            loop {
                let now = self.clock.now();
                let due = self.store.read(|state| due(kind.slots(state), now));
                match due {
                    Due::Nothing => break,
                    Due::Prepare => {
                        let slot = self.prepare(kind)?;
                        tracing::info!(authority = %slot.id, expires_at = slot.not_after, "{} prepared", kind.name());
                    }
                    Due::Activate(id) => {
                        self.activate(kind, &id)?;
                        tracing::info!(authority = %id, "{} activated", kind.name());
                    }
                }
            }
        }
        self.prune()
    }

    /// Makes an authority and publishes it; it does not sign yet. One that was prepared before is old thereby.
    pub fn prepare(&self, kind: Kind) -> Result<Slot, Refusal> {
        let now = self.clock.now();
        let made = match kind {
            Kind::X509 => x509::new_authority(&self.settings, now)?,
            Kind::Jwt => jwt::new_authority(&self.settings, now)?,
        };
        self.store.update_keys(|state, keys| {
            for slot in kind
                .slots_mut(state)
                .iter_mut()
                .filter(|slot| slot.standing == Standing::Prepared)
            {
                slot.standing = Standing::Old;
            }
            kind.slots_mut(state).push(made.slot.clone());
            keys.insert(made.slot.id.clone(), made.pkcs8.clone());
            match &made.published {
                Published::X509(authority) => state.bundle.x509.push(authority.clone()),
                Published::Jwt(authority) => state.bundle.jwt.push(authority.clone()),
            }
            state.bundle.sequence += 1;
            Ok(made.slot.clone())
        })
    }

    /// Lets the prepared authority `id` sign in the place of the one that did.
    pub fn activate(&self, kind: Kind, id: &str) -> Result<Slot, Refusal> {
        self.store.update(|state| {
            let slots = kind.slots_mut(state);
            let at = slots
                .iter()
                .position(|slot| slot.id == id && slot.standing != Standing::Active)
                .ok_or_else(|| Refusal::invalid("unexpected authority ID"))?;
            if slots[at].standing == Standing::Old {
                return Err(Refusal::internal(
                    "only Prepared authorities can be activated: unsupported local authority status: OLD",
                ));
            }
            for slot in slots.iter_mut().filter(|slot| slot.standing == Standing::Active) {
                slot.standing = Standing::Old;
            }
            slots[at].standing = Standing::Active;
            Ok(slots[at].clone())
        })
    }

    /// The authority of `kind` that stands there: the newest, where several do.
    pub fn standing(&self, kind: Kind, standing: Standing) -> Option<Slot> {
        self.store.read(|state| {
            kind.slots(state)
                .iter()
                .rfind(|slot| slot.standing == standing)
                .cloned()
        })
    }

    /// Marks an old authority as suspect: agents replace what it signed at once.
    pub fn taint(&self, kind: Kind, id: &str) -> Result<Slot, Refusal> {
        self.store.update(|state| {
            let slot = to_be_tainted(kind, state, id)?;
            match kind {
                Kind::X509 => {
                    let found = state.bundle.x509.iter_mut().find(|one| one.der == slot.certificate);
                    let found = found.ok_or_else(|| Refusal::not_found(format!("`{id}` is not in the bundle")))?;
                    if found.tainted {
                        return Err(Refusal::internal(
                            "failed to taint X.509 authority: root CA is already tainted",
                        ));
                    }
                    found.tainted = true;
                }
                Kind::Jwt => {
                    let found = state.bundle.jwt.iter_mut().find(|one| one.key_id == id);
                    let found = found.ok_or_else(|| Refusal::not_found(format!("`{id}` is not in the bundle")))?;
                    if found.tainted {
                        return Err(Refusal::internal(
                            "failed to taint JWT authority: key is already tainted",
                        ));
                    }
                    found.tainted = true;
                }
            }
            state.bundle.sequence += 1;
            Ok(slot)
        })
    }

    /// Takes a tainted authority out of the bundle: nobody trusts what it signed any more.
    pub fn revoke(&self, kind: Kind, id: &str) -> Result<Slot, Refusal> {
        self.store.update_keys(|state, keys| {
            let slot = to_be_revoked(kind, state, id)?;
            let bundle = &mut state.bundle;
            let tainted = match kind {
                Kind::X509 => bundle.x509.iter().any(|one| one.der == slot.certificate && one.tainted),
                Kind::Jwt => bundle.jwt.iter().any(|one| one.key_id == id && one.tainted),
            };
            if !tainted {
                return Err(Refusal::internal(match kind {
                    Kind::X509 => "failed to revoke X.509 authority: it is not possible to revoke an untainted root CA",
                    Kind::Jwt => "failed to revoke JWT authority: it is not possible to revoke an untainted key",
                }));
            }
            match kind {
                Kind::X509 => bundle.x509.retain(|one| one.der != slot.certificate),
                Kind::Jwt => bundle.jwt.retain(|one| one.key_id != id),
            }
            bundle.sequence += 1;
            kind.slots_mut(state).retain(|one| one.id != id);
            keys.retain(&|key| key != id);
            Ok(slot)
        })
    }

    /// The signer of certificates.
    pub fn x509(&self) -> Result<Arc<X509Signer>, Refusal> {
        let slot = self.active(Kind::X509)?;
        let mut signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = signing.x509.as_ref().filter(|signer| signer.id() == slot.id) {
            return Ok(Arc::clone(signer));
        }
        let key = self.key(&slot)?;
        let signer = Arc::new(X509Signer::new(&slot, &key)?);
        signing.x509 = Some(Arc::clone(&signer));
        Ok(signer)
    }

    /// The signer of tokens.
    pub fn jwt(&self) -> Result<Arc<JwtSigner>, Refusal> {
        let slot = self.active(Kind::Jwt)?;
        let mut signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = signing.jwt.as_ref().filter(|signer| signer.id() == slot.id) {
            return Ok(Arc::clone(signer));
        }
        let key = self.key(&slot)?;
        let signer = Arc::new(JwtSigner::new(&slot, &key)?);
        signing.jwt = Some(Arc::clone(&signer));
        Ok(signer)
    }

    /// Signs a certificate for `of`, by the clock.
    pub fn sign_x509(&self, of: &LeafOf<'_>) -> Result<Leaf, Refusal> {
        self.verify_member(of.spiffe_id)?;
        self.x509()?.sign(of, self.clock.now())
    }

    /// Signs a token; its answer is the token, and when it was issued and ends. A `ttl` of zero is the default.
    pub fn sign_jwt(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: Duration,
        with_jti: bool,
    ) -> Result<(String, i64, i64), Refusal> {
        self.verify_member(id)?;
        let ttl = if ttl.is_zero() { self.settings.jwt_svid_ttl } else { ttl };
        self.jwt()?.sign(
            id,
            audience,
            self.clock.now(),
            ttl,
            self.settings.jwt_issuer.as_deref(),
            with_jti,
        )
    }

    /// Whether `id` is a workload's of this trust domain.
    pub fn verify_member(&self, id: &SpiffeId) -> Result<(), Refusal> {
        let ours = &self.settings.trust_domain;
        if id.trust_domain() != ours {
            return Err(Refusal::invalid(format!(
                "\"{id}\" is not a member of trust domain \"{ours}\""
            )));
        }
        if id.path().is_root() {
            return Err(Refusal::invalid(format!(
                "\"{id}\" is not a member of trust domain \"{ours}\"; path is empty"
            )));
        }
        Ok(())
    }

    fn active(&self, kind: Kind) -> Result<Slot, Refusal> {
        self.standing(kind, Standing::Active).ok_or_else(|| {
            Refusal::new(
                tonic::Code::Unavailable,
                format!("no {} signs yet; try again in a moment", kind.name()),
            )
        })
    }

    fn key(&self, slot: &Slot) -> Result<Vec<u8>, Refusal> {
        self.store
            .read_keys(|_, keys| keys.get(&slot.id).map(<[u8]>::to_vec))
            .ok_or_else(|| Refusal::internal(format!("the key of authority {} is gone", slot.id)))
    }

    fn prune(&self) -> Result<(), Refusal> {
        let now = self.clock.now();
        let lived = i64::try_from(self.settings.ca_ttl.as_secs()).unwrap_or(i64::MAX);
        let grace = KEPT_AFTER_END.min(lived);
        let over = |end: i64| end != 0 && end.saturating_add(grace) < now;
        let any = self.store.read(|state| {
            state
                .x509_slots
                .iter()
                .chain(&state.jwt_slots)
                .any(|slot| over(slot.not_after))
                || state.bundle.x509.iter().any(|one| over(one.expires_at))
                || state.bundle.jwt.iter().any(|one| over(one.expires_at))
        });
        if !any {
            return Ok(());
        }
        self.store.update_keys(|state, keys| {
            state.x509_slots.retain(|slot| !over(slot.not_after));
            state.jwt_slots.retain(|slot| !over(slot.not_after));
            state.bundle.x509.retain(|one| !over(one.expires_at));
            state.bundle.jwt.retain(|one| !over(one.expires_at));
            state.bundle.sequence += 1;
            let slots = &*state;
            keys.retain(&|id| {
                slots
                    .x509_slots
                    .iter()
                    .chain(&slots.jwt_slots)
                    .any(|slot| slot.id == id)
            });
            Ok(())
        })
    }
}

fn slot(kind: Kind, state: &State, id: &str) -> Option<Slot> {
    kind.slots(state).iter().find(|slot| slot.id == id).cloned()
}

fn to_be_tainted(kind: Kind, state: &State, id: &str) -> Result<Slot, Refusal> {
    let slot = slot(kind, state, id).ok_or_else(|| Refusal::invalid("unexpected authority ID"))?;
    match slot.standing {
        Standing::Old => Ok(slot),
        Standing::Active => Err(Refusal::invalid("unable to taint current local authority")),
        Standing::Prepared => Err(Refusal::invalid(
            "only Old local authorities can be tainted: unsupported local authority status: PREPARED",
        )),
    }
}

fn to_be_revoked(kind: Kind, state: &State, id: &str) -> Result<Slot, Refusal> {
    let slot = slot(kind, state, id);
    let why = match (&slot, kind) {
        (Some(slot), _) if slot.standing == Standing::Active => "unable to use current authority",
        (Some(slot), Kind::Jwt) if slot.standing == Standing::Prepared => "unable to use a prepared key",
        (None, Kind::Jwt) => "no JWT authority found with provided authority ID",
        _ => "only Old local authority can be revoked",
    };
    slot.filter(|slot| slot.standing == Standing::Old)
        .ok_or_else(|| Refusal::invalid(format!("invalid authority ID: {why}")))
}

/// An authority that was just made.
struct Made {
    slot: Slot,
    pkcs8: Vec<u8>,
    published: Published,
}

enum Published {
    X509(store::X509Authority),
    Jwt(store::JwtAuthority),
}

/// When something that begins `now` and lives `ttl` ends.
fn end(now: i64, ttl: Duration) -> i64 {
    now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}
