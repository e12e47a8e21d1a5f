//! Which request gets which answer.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::{Answer, Received};

/// Which requests an answer is for. Every condition that is set must hold; none set means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    path: Option<String>,
    key: Option<String>,
    webhook_id: Option<String>,
    times: Option<u64>,
    every: Option<u64>,
    seen: u64,
}

impl Rule {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests to a path, without the query; `/orders/*` is all that begin with `/orders/`.
    pub fn path(path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::default() }
    }

    /// Only with this key, found where the ledger finds it.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only with this `webhook-id`.
    pub fn webhook_id(mut self, id: impl Into<String>) -> Self {
        self.webhook_id = Some(id.into());
        self
    }

    /// Only the next so many requests.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only one of so many requests that fit otherwise: the last one of each round.
    pub fn one_in(mut self, every: u64) -> Self {
        self.every = Some(every);
        self
    }

    /// Whether it answers this request; then it is one time less.
    fn takes(&mut self, request: &Received, key: Option<&str>) -> bool {
        if !self.fits(request, key) {
            return false;
        }
        self.seen += 1;
        let turn = self.every.is_none_or(|every| self.seen.is_multiple_of(every));
        if let (true, Some(times)) = (turn, &mut self.times) {
            *times -= 1;
        }
        turn
    }

    fn fits(&self, request: &Received, key: Option<&str>) -> bool {
        let path_fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => request.path().starts_with(start),
            None => request.path() == wanted,
        };
        self.times != Some(0)
            && self.path.as_ref().is_none_or(path_fits)
            && self.key.as_ref().is_none_or(|wanted| key == Some(wanted.as_str()))
            && self.webhook_id.as_ref().is_none_or(|wanted| request.header("webhook-id") == Some(wanted))
    }
}

/// Answers by rule. The first rule that fits answers; a request that none fits gets 200.
#[derive(Debug, Default)]
pub struct Script {
    rules: Mutex<Vec<(Rule, Answer)>>,
    written: AtomicBool,
}

impl Script {
    /// Adds a rule behind those that are there.
    pub fn push(&self, rule: Rule, answer: Answer) {
        self.rules().push((rule, answer));
        self.written.store(true, Ordering::Release);
    }

    /// Forgets every rule: all requests get 200 again.
    pub fn clear(&self) {
        self.rules().clear();
        self.written.store(false, Ordering::Release);
    }

    /// The answer to a request; `key` is asked for only if there are rules.
    pub(crate) fn answer(&self, request: &Received, key: impl FnOnce() -> Option<String>) -> Answer {
        if !self.written.load(Ordering::Acquire) {
            return Answer::ok();
        }
        let key = key();
        let mut rules = self.rules();
        let found = rules.iter_mut().find_map(|(rule, answer)| {
            let takes = rule.takes(request, key.as_deref());
            takes.then(|| answer.clone())
        });
        found.unwrap_or_else(Answer::ok)
    }

    fn rules(&self) -> MutexGuard<'_, Vec<(Rule, Answer)>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
