//! From what a student asks for, and what is on disk, to a session.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Host, labs};
use crate::{
    catalog::{self, Found, SOURCE_BUILT_IN},
    cluster::{ClusterError, GroundKind},
    lab::Lab,
    session::{
        clock::Clock,
        command::Refusal,
        driver::{Begin, refuse},
        edited::Pinned,
        journal::{Header, Journal, Written},
        pin, posture,
        site::{self, Choice, ContextChoice, Site},
        state::{Event, State},
        tools,
        work::{WorkDir, brought},
    },
};

/// What a student asks for.
pub(super) struct Wish {
    /// The lab's id.
    pub lab: String,
    /// The ground; none for the one it was left on, else the default.
    pub choice: Option<Choice>,
    /// Whether earlier progress is forgotten.
    pub fresh: bool,
}

impl Wish {
    /// What a command asks for.
    pub fn new(lab: String, ground: &str, fresh: bool, context: Option<ContextChoice>) -> Result<Self, Refusal> {
        let parsed: Option<GroundKind> = match ground {
            "" => None,
            ground => Some(ground.parse().map_err(|error: ClusterError| Refusal {
                message: error.to_string(),
                hint: error.hint(),
            })?),
        };
        let choice = match (parsed, context) {
            (Some(GroundKind::Context), None) => {
                return Err(refuse(
                    "the ground `context` needs the name of a context",
                    "give it with --context; `kubectl config get-contexts` shows those there are",
                ));
            }
            (Some(GroundKind::Embedded) | None, Some(_)) => {
                return Err(refuse(
                    "a context is chosen, but not the ground `context`",
                    "give --ground context with it",
                ));
            }
            (Some(ground), context) => Some(Choice { ground, context }),
            (None, None) => None,
        };
        Ok(Self { lab, choice, fresh })
    }

    /// A session that was there before, as it was.
    pub fn again(lab: String) -> Self {
        Self {
            lab,
            choice: None,
            fresh: false,
        }
    }

    /// Refuses another ground than the one the progress belongs to.
    pub fn fits(&self, there: &Choice) -> Result<(), Refusal> {
        let differs = self.choice.as_ref().is_some_and(|choice| {
            let context = |choice: &Choice| {
                choice
                    .context
                    .as_ref()
                    .map(|one| (one.name.clone(), one.prefix.clone()))
            };
            choice.ground != there.ground || context(choice) != context(there)
        });
        if differs {
            return Err(refuse(
                format!("the progress in the lab `{}` belongs to {}", self.lab, there.told()),
                format!(
                    "`ztlab lab start {}` goes on there; with --fresh it begins anew where you say",
                    self.lab
                ),
            ));
        }
        Ok(())
    }
}

/// A lab, by the text a session is pinned to.
struct Text {
    found: Found,
    pinned: Pinned,
}

impl Host {
    /// The session of a lab as its journal left it, or a new one; and where it runs.
    pub(super) fn begin(&self, cwd: Option<&Path>, wish: &Wish) -> Result<(Begin, Site, bool), Refusal> {
        let id = wish.lab.as_str();
        let found = catalog::find(id, cwd).map_err(labs::refusal);
        let dir = match &found {
            Ok(found) => self.dir.join(&found.id),
            Err(refusal) if !wish.fresh && is_id(id) => self.kept(id).ok_or_else(|| refusal.clone())?,
            Err(refusal) => return Err(refusal.clone()),
        };
        let failed = |error: &dyn std::fmt::Display| Refusal {
            message: error.to_string(),
            hint: Some(format!(
                "`ztlab lab start {id} --fresh` begins anew and forgets the progress of this lab"
            )),
        };
        crate::paths::private_dir(dir.clone()).map_err(|error| failed(&error))?;
        let path = dir.join("journal.jsonl");
        let before = if wish.fresh {
            // What cannot be read is forgotten like all else.
            None
        } else {
            Journal::open(&path).map_err(|error| failed(&error))?
        };
        let work = WorkDir::of(&dir);
        let owner = site::owner(&self.dir).map_err(|error| failed(&error))?;
        // Where the lab never came to be, another place begins it.
        let was_there = |written: &[Written]| written.iter().any(|(_, event)| matches!(event, Event::Deployed { .. }));
        let before = before.filter(|(_, header, written)| was_there(written) || wish.fits(&header.choice).is_ok());
        if let Some((journal, header, written)) = before {
            wish.fits(&header.choice)?;
            let text = pinned(found.ok(), &header, &dir).map_err(|error| failed(&error))?;
            let (lab, site) = self.place(&text.found, header.choice.clone(), header.began_ms, &dir, &owner)?;
            work.ensure().map_err(|error| failed(&error))?;
            let mut state = State::new(Arc::new(lab));
            for (_, event) in &written {
                // Effects were run when the event happened.
                state.apply(event);
            }
            state.restart();
            let begin = Begin {
                id: text.found.id.clone(),
                cluster: site.cluster.clone(),
                choice: header.choice,
                work,
                state,
                journal,
                spent_ms: Clock::of(written.iter().map(|(at_ms, event)| (*at_ms, event))),
                pinned: text.pinned,
                notes: Vec::new(),
            };
            return Ok((begin, site, true));
        }
        let found = found?;
        let choice = wish.choice.clone().unwrap_or_default();
        let header = Header::new(&found.id, found.hash(), found.source.clone(), choice.clone());
        let (lab, site) = self.place(&found, choice.clone(), header.began_ms, &dir, &owner)?;
        tools::there(&lab)?;
        let files = brought(&found).map_err(|error| refuse(error, "mend the lab's directory"))?;
        let files: Vec<_> = files.into_iter().map(|file| file.placed(&site.transform)).collect();
        pin::keep(&dir, &found).map_err(|error| failed(&error))?;
        posture::forget(&dir);
        let journal = Journal::create(&path, &header).map_err(|error| failed(&error))?;
        let before = work.begin(&files).map_err(|error| failed(&error))?;
        let begin = Begin {
            id: found.id.clone(),
            cluster: site.cluster.clone(),
            choice,
            work,
            state: State::new(Arc::new(lab)),
            journal,
            spent_ms: 0,
            pinned: Pinned {
                hash: found.hash(),
                file: file_of(&found.source),
                changed: false,
            },
            notes: before
                .map(|before| format!("the files of the time before are in {}", before.display()))
                .into_iter()
                .collect(),
        };
        Ok((begin, site, false))
    }

    /// The directory of a session whose lab cannot be found any more.
    fn kept(&self, id: &str) -> Option<PathBuf> {
        let dir = self.dir.join(id);
        (dir.join("journal.jsonl").is_file() && dir.join("lab.yaml").is_file()).then_some(dir)
    }

    /// The lab as it is where it runs.
    fn place(
        &self,
        found: &Found,
        choice: Choice,
        began_ms: u64,
        dir: &Path,
        owner: &str,
    ) -> Result<(Lab, Site), Refusal> {
        let lab = found.load(&labs::Topologies).map_err(labs::refusal)?;
        let transform = choice.transform(&lab, owner)?;
        let cluster = match &choice.context {
            Some(context) => context.name.clone(),
            None => format!("{}{}", self.prefix, found.id),
        };
        let site = Site {
            cluster,
            choice,
            began_ms,
            dir: dir.to_owned(),
            work: WorkDir::of(dir).path().to_owned(),
            transform,
        };
        Ok((site::placed(lab, &site.transform), site))
    }
}

/// Whether this can be a lab's id, and so the name of a directory.
fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn file_of(source: &str) -> Option<PathBuf> {
    (source != SOURCE_BUILT_IN).then(|| PathBuf::from(source))
}

/// The lab as it was when the session began.
fn pinned(found: Option<Found>, header: &Header, dir: &Path) -> io::Result<Text> {
    let same = |found: &Found| found.hash() == header.hash;
    let file = file_of(&header.source);
    let changed = match &file {
        Some(file) => !catalog::open(file).is_ok_and(|found| same(&found)),
        None => !found.as_ref().is_some_and(same),
    };
    let found = match found.filter(same) {
        Some(found) => found,
        None => pin::kept(dir, header)?,
    };
    Ok(Text {
        found,
        pinned: Pinned {
            hash: header.hash.clone(),
            file,
            changed,
        },
    })
}
