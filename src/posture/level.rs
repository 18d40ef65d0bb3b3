//! The level that a matrix reaches, and the first cell that keeps it from the next.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::model::{Answer, Cell, Credential, DeclaredBy, Matrix, Property, Reach};

/// How long a credential of level 3 may live. Issuers date certificates back by some seconds against clocks that
/// differ (SPIRE by 10), which is no longer life.
const SHORT_LIVED: Duration = Duration::from_secs(60 * 60 + 60);

/// A zero trust level, or that nobody can tell.
///
/// In JSON a number, or `null` where it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Option<u8>", into = "Option<u8>")]
pub enum Level {
    /// Nothing is declared, so nothing can be against it.
    Unknown,
    /// 0 to 4.
    Is(u8),
}

impl Level {
    /// Whether it is at least `level`; an unknown one is at least nothing.
    pub fn reaches(self, level: u8) -> bool {
        matches!(self, Self::Is(is) if is >= level)
    }
}

impl From<Option<u8>> for Level {
    fn from(level: Option<u8>) -> Self {
        level.map_or(Self::Unknown, Self::Is)
    }
}

impl From<Level> for Option<u8> {
    fn from(level: Level) -> Self {
        match level {
            Level::Unknown => None,
            Level::Is(level) => Some(level),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.pad("unknown"),
            Self::Is(level) => f.pad(&level.to_string()),
        }
    }
}

/// A cell by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaks {
    /// The edge (`mallory → ledger:5432`).
    pub edge: String,
    /// Why it breaks the rule.
    pub because: String,
}

/// What one level asks for, and whether that is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The level, 1 to 4.
    pub level: u8,
    /// What it asks for, beyond the level before.
    pub asks: String,
    /// Whether that holds.
    pub holds: Answer,
    /// How many cells it looked at.
    pub looked_at: usize,
    /// How many of them break it, or leave it open.
    pub against: usize,
    /// The first of those.
    pub first: Option<Breaks>,
}

impl Rule {
    /// How it stands, in words: how many calls it looked at, and which was the first against it.
    pub fn standing(&self) -> String {
        match (&self.first, self.holds) {
            (_, Answer::Yes) => format!("so it is for every call looked at ({})", self.looked_at),
            (Some(first), _) => {
                let edge = if first.edge.is_empty() {
                    String::new()
                } else {
                    format!("{}: ", first.edge)
                };
                let (against, of) = (self.against, self.looked_at);
                let word = if self.holds == Answer::No {
                    "against it"
                } else {
                    "not shown"
                };
                format!("{against} of {of} {word}, the first: {edge}{}", first.because)
            }
            (None, _) => "nothing to look at".to_owned(),
        }
    }
}

/// The level with the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelReport {
    /// The level.
    pub level: Level,
    /// Why no higher, in a sentence.
    pub because: String,
    /// Each level's rule.
    pub rules: Vec<Rule>,
}

/// What the levels ask for.
const ASKS: [&str; 4] = [
    "every call that the application does not declare is refused by the network",
    "every declared call is mutual TLS: not readable, and a client without a certificate is refused",
    "every credential is an SVID of the right trust domain, lives an hour at most, and was seen to rotate",
    "every request is authorised by identity, and the decision log names who asked",
];

/// What one cell says of a rule.
type Judged = (Answer, String);

impl Matrix {
    /// The level.
    pub fn level(&self) -> LevelReport {
        let rules: Vec<Rule> = [self.segmented(), self.mutual(), self.short_lived(), self.authorised()]
            .into_iter()
            .zip(ASKS)
            .zip(1_u8..)
            .map(|((judged, asks), level)| self.rule(level, asks, &judged))
            .collect();
        if self.declared_by == DeclaredBy::Nobody {
            let because = "nothing is declared: nobody said who may call whom, so nothing can be against it";
            return LevelReport {
                level: Level::Unknown,
                because: because.to_owned(),
                rules,
            };
        }
        if self.cells.is_empty() {
            return LevelReport {
                level: Level::Unknown,
                because: "there are no two workloads of which one has a port".to_owned(),
                rules,
            };
        }
        let level = rules.iter().take_while(|rule| rule.holds == Answer::Yes).count();
        let because = match rules.get(level) {
            None => "everything that is asked for holds".to_owned(),
            Some(rule) => next(rule),
        };
        LevelReport {
            level: Level::Is(level as u8),
            because,
            rules,
        }
    }

    fn rule(&self, level: u8, asks: &str, judged: &[(Option<&Cell>, Judged)]) -> Rule {
        let with = |answer: Answer| judged.iter().filter(move |(_, (is, _))| *is == answer);
        let holds = if with(Answer::No).next().is_some() {
            Answer::No
        } else if judged.is_empty() || with(Answer::Undetermined).next().is_some() {
            Answer::Undetermined
        } else {
            Answer::Yes
        };
        let first = with(holds).next().filter(|_| holds != Answer::Yes);
        Rule {
            level,
            asks: asks.to_owned(),
            holds,
            looked_at: judged.len(),
            against: if holds == Answer::Yes { 0 } else { with(holds).count() },
            first: first.map(|(cell, (_, because))| Breaks {
                edge: cell.map_or_else(String::new, |cell| self.edge(cell)),
                because: because.clone(),
            }),
        }
    }

    /// Every edge the application does not declare is refused by the network.
    fn segmented(&self) -> Vec<(Option<&Cell>, Judged)> {
        let undeclared = self.cells.iter().filter(|cell| cell.declared != Some(true));
        let judged = undeclared.map(|cell| {
            let answer = match cell.reach {
                Reach::Allowed => Answer::No,
                Reach::Refused | Reach::TimedOut => Answer::Yes,
                Reach::Undetermined => Answer::Undetermined,
            };
            let because = match answer {
                Answer::No => "not declared, and the connection opens".to_owned(),
                _ => cell.reachable.because.clone(),
            };
            (Some(cell), (answer, because))
        });
        let mut judged: Vec<_> = judged.collect();
        if judged.is_empty() && !self.cells.is_empty() {
            // Every cell is declared: there is nothing left that could be refused.
            judged.push((None, (Answer::Yes, String::new())));
        }
        judged
    }

    /// Every declared edge is mutual TLS.
    fn mutual(&self) -> Vec<(Option<&Cell>, Judged)> {
        self.of_declared(|cell| {
            let say = |property: Property| (cell.answer(property), cell.finding(property).because.clone());
            let is = |property: Property, answer: Answer| cell.answer(property) == answer;
            if cell.reach != Reach::Allowed {
                (
                    Answer::Undetermined,
                    format!("declared, but {}: nothing to look at", cell.reach.as_str()),
                )
            } else if is(Property::Readable, Answer::Yes) {
                (Answer::No, say(Property::Readable).1)
            } else if is(Property::ClientAuthenticated, Answer::No) {
                (Answer::No, say(Property::ClientAuthenticated).1)
            } else if is(Property::ServerAuthenticated, Answer::No) {
                (Answer::No, say(Property::ServerAuthenticated).1)
            } else {
                let open = [
                    Property::Readable,
                    Property::ClientAuthenticated,
                    Property::ServerAuthenticated,
                ]
                .into_iter()
                .map(say)
                .find(|(answer, _)| *answer == Answer::Undetermined);
                open.unwrap_or((Answer::Yes, String::new()))
            }
        })
    }

    /// Every credential is an SVID of the right trust domain, short-lived, and seen to rotate.
    fn short_lived(&self) -> Vec<(Option<&Cell>, Judged)> {
        let agreed = self.trust_domain.clone().or_else(|| {
            let mut shown = self.cells.iter().filter(|cell| cell.declared == Some(true));
            shown.find_map(|cell| Some(cell.credentials.server.as_ref()?.trust_domain()?.to_owned()))
        });
        self.of_declared(|cell| {
            let sides = [
                ("server", &cell.credentials.server),
                ("client", &cell.credentials.client),
            ];
            let judged = sides.map(|(side, shown)| match shown {
                Some(credential) => short_lived(side, credential, agreed.as_deref()),
                None if cell.answer(Property::Readable) == Answer::Yes => (
                    Answer::No,
                    format!("in clear: the {side} shows nothing that proves who it is"),
                ),
                None => (Answer::Undetermined, format!("the {side}'s credential was not seen")),
            });
            let worst = |answer: Answer| judged.iter().find(|(is, _)| *is == answer).cloned();
            worst(Answer::No)
                .or_else(|| worst(Answer::Undetermined))
                .unwrap_or((Answer::Yes, String::new()))
        })
    }

    /// Every request is authorised by identity.
    fn authorised(&self) -> Vec<(Option<&Cell>, Judged)> {
        self.of_declared(|cell| {
            let finding = &cell.authorised_by_identity;
            (finding.answer, finding.because.clone())
        })
    }

    fn of_declared(&self, judge: impl Fn(&Cell) -> Judged) -> Vec<(Option<&Cell>, Judged)> {
        let declared = self.cells.iter().filter(|cell| cell.declared == Some(true));
        let mut judged: Vec<_> = declared.map(|cell| (Some(cell), judge(cell))).collect();
        judged.extend(self.missing.iter().map(|missing| {
            let because = format!("{}: {}", missing.edge, missing.because);
            (None, (Answer::Undetermined, because))
        }));
        judged
    }
}

fn short_lived(side: &str, credential: &Credential, domain: Option<&str>) -> Judged {
    let kind = credential.kind.as_str();
    if !credential.is_svid() {
        let one = credential.kind.one();
        return (Answer::No, format!("the {side}'s credential is {one}, no SVID"));
    }
    if let (Some(wanted), shown) = (domain, credential.trust_domain())
        && shown != Some(wanted)
    {
        let shown = shown.unwrap_or("none");
        return (
            Answer::No,
            format!("the {side}'s trust domain is {shown}, not {wanted}"),
        );
    }
    match credential.lifetime() {
        None if credential.because.is_empty() => (
            Answer::Undetermined,
            format!("how long the {side}'s {kind} lives was not seen"),
        ),
        None => {
            let because = &credential.because;
            let told = format!("how long the {side}'s {kind} lives was not seen: {because}");
            (Answer::Undetermined, told)
        }
        Some(life) if life > SHORT_LIVED => (
            Answer::No,
            format!("the {side}'s {kind} lives {}", super::words::lasting(life)),
        ),
        Some(_) => match credential.rotated {
            Answer::Yes => (Answer::Yes, String::new()),
            Answer::No => {
                let because = &credential.because;
                (
                    Answer::No,
                    format!("the {side}'s {kind} did not rotate in time: {because}"),
                )
            }
            Answer::Undetermined if !credential.because.is_empty() => {
                let because = &credential.because;
                (Answer::Undetermined, format!("the {side}'s {kind}: {because}"))
            }
            Answer::Undetermined => (
                Answer::Undetermined,
                format!("not measured: the {side}'s {kind} was not watched until it rotates"),
            ),
        },
    }
}

/// Why a rule keeps the level where it is.
fn next(rule: &Rule) -> String {
    let Rule { level, first, .. } = rule;
    let word = match rule.holds {
        Answer::No => "does not hold",
        _ => "is not shown",
    };
    match first {
        Some(first) if first.edge.is_empty() => format!("level {level} {word}: {}", first.because),
        Some(first) => format!("level {level} {word}: {}: {}", first.edge, first.because),
        None => format!("level {level} {word}: no declared call was looked at"),
    }
}
