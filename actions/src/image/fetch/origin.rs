//! The mirrors of an image, and what is known of the image that they serve.

mod request;

use std::sync::{Mutex, MutexGuard, PoisonError};

use nibs_job::{Class, Location};
use url::Url;

use super::super::range::Validator;
use super::{Error, Fetch};

/// What all parts of one image share.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) fetch: Fetch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mirrors: Vec<Mirror>,
    /// The mirror that served last.
    good: usize,
    /// The image as the first answer had it.
    image: Option<Identity>,
}

#[derive(Debug)]
struct Mirror {
    /// As it tells versions apart; none before its first answer.
    validator: Option<Option<Validator>>,
    /// What went wrong with it last.
    said: Option<String>,
    out: Option<Out>,
}

/// What an image is recognised by.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) total: Option<u64>,
    pub(super) validator: Option<Validator>,
}

/// Why a mirror is asked no more.
#[derive(Debug)]
enum Out {
    /// It does not give the image.
    Refused(Error),
    /// It cannot continue what was read.
    Discontinued(String),
}

/// Why one request brought no answer that can be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again may help.
    ForNow(String),
    /// It does not give the image.
    Refused(Error),
    /// It cannot continue what was read.
    Discontinued(String),
}

impl Origin {
    pub(super) fn new(fetch: Fetch) -> Self {
        let mirror = |_: &Url| Mirror { validator: None, said: None, out: None };
        let mirrors = fetch.urls.iter().map(mirror).collect();
        let state = Mutex::new(State { mirrors, good: 0, image: None });
        Self { fetch, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the image is, where that is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.image().and_then(|image| image.total)
    }

    pub(super) fn image(&self) -> Option<Identity> {
        self.lock().image.clone()
    }

    /// A mirror's URL without what may be secret in it.
    pub(super) fn shown(&self, mirror: usize) -> String {
        Location::Http(self.fetch.urls[mirror].clone()).to_string()
    }

    /// Where the bytes come from, without what may be secret in it.
    pub(super) fn place(&self) -> String {
        self.shown(self.good())
    }

    /// The mirror that served last, or that is asked first.
    pub(super) fn good(&self) -> usize {
        self.lock().good
    }

    /// The mirrors that may be asked, the last good one first.
    pub(super) fn order(&self) -> Vec<usize> {
        let state = self.lock();
        let mut order: Vec<usize> =
            (0..state.mirrors.len()).filter(|index| state.mirrors[*index].out.is_none()).collect();
        order.sort_by_key(|index| *index != state.good);
        order
    }

    /// Keeps what went wrong with a mirror, and says so unless it is about to end the transfer.
    pub(super) fn note(&self, mirror: usize, trouble: Trouble) {
        let url = self.shown(mirror);
        let mut state = self.lock();
        let (said, then, out) = match trouble {
            Trouble::ForNow(said) => (said, "trying again", None),
            Trouble::Refused(error) => {
                (error.to_string(), "asking it no more", Some(Out::Refused(error)))
            }
            Trouble::Discontinued(why) => {
                (why.clone(), "asking it no more", Some(Out::Discontinued(why)))
            }
        };
        let is_out = out.is_some();
        state.mirrors[mirror].said = Some(said.clone());
        state.mirrors[mirror].out = out;
        let others = state.mirrors.iter().any(|mirror| mirror.out.is_none());
        drop(state);
        if !is_out || others {
            let warning = match said.strip_prefix(&format!("fetching {url}: ")) {
                Some(_) => format!("{said}; {then}"),
                None => format!("fetching {url}: {said}; {then}"),
            };
            self.fetch.sink.warning(warning);
        }
    }

    /// Why there is no mirror left to ask.
    pub(super) fn exhausted(&self, offset: u64, broke: &str) -> Error {
        let mut state = self.lock();
        let good = state.good;
        let mut refused = Vec::new();
        let mut why = Vec::new();
        for (index, mirror) in state.mirrors.iter_mut().enumerate() {
            let text = match &mirror.out {
                Some(Out::Refused(error)) => error.to_string(),
                Some(Out::Discontinued(reason)) => reason.clone(),
                None => continue,
            };
            // It stays out for other parts, which may come here too.
            if let Some(Out::Refused(error)) = mirror.out.replace(Out::Discontinued(text.clone())) {
                refused.push(error);
            }
            why.push((index, text));
        }
        let total = state.image.as_ref().and_then(|image| image.total);
        let (mirrors, discontinued) = (state.mirrors.len(), refused.len() < why.len());
        drop(state);
        if discontinued {
            let url = self.shown(good);
            let (broke, why) = (broke.to_owned(), self.list(&why));
            return Error::NotResumable { url, offset, total, broke, why };
        }
        let class = refused.iter().map(Error::class).find(|class| class.is_retryable());
        match refused.pop() {
            Some(error) if mirrors == 1 => error,
            last => {
                let class = class.or(last.map(|error| error.class()));
                Error::Mirrors {
                    class: class.unwrap_or(Class::Internal),
                    said: why.into_iter().map(|(_, said)| said).collect::<Vec<_>>().join("; "),
                }
            }
        }
    }

    /// What each mirror said last.
    pub(super) fn said(&self) -> String {
        let state = self.lock();
        let said = state.mirrors.iter().enumerate();
        let said: Vec<_> = said.filter_map(|(i, m)| Some((i, m.said.clone()?))).collect();
        drop(state);
        self.list(&said)
    }

    /// Words by mirrors, which are named if there are several.
    fn list(&self, said: &[(usize, String)]) -> String {
        let several = self.fetch.urls.len() > 1;
        let one = |(index, said): &(usize, String)| match several {
            true => format!("{}: {said}", self.shown(*index)),
            false => said.clone(),
        };
        said.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Whether what a mirror gave can be continued by it at all.
    pub(super) fn can_resume(&self, mirror: usize) -> bool {
        let has_validator = matches!(self.lock().mirrors[mirror].validator, Some(Some(_)));
        has_validator || self.fetch.proven_by_digest
    }
}
