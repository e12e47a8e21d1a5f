//! Replays.

use std::collections::BTreeSet;

use async_trait::async_trait;
use crossdock_core::{
    Act, DeadLetter, DeadLetterId, FlowName, ItemState, LetterState, NewReplay, Page, PageRequest, Partition,
    Replay, ReplayItem, ReplayState, ReplayTicket, Replays, StoreError, Tried, span,
};
use jiff::Timestamp;

use super::{Defect, Memory, State, dead_letters::selects, page_of};

/// A replay with its items.
pub(super) struct Job {
    replay: Replay,
    items: Vec<(DeadLetterId, ItemState)>,
    bucket: Bucket,
}

/// What may be sent at the rate of a replay.
struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
}

impl Bucket {
    fn take(&mut self, rate: f64, want: u64, now: Timestamp) -> u64 {
        let gained = span(self.filled_at, now).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min((rate / 10.0).max(1.0));
        self.filled_at = now;
        let allowed = (self.tokens as u64).min(want);
        self.tokens -= allowed as f64;
        allowed
    }
}

impl State {
    /// Marks an item that was skipped as delivered. `false` if it was not skipped.
    pub(super) fn unskip(&mut self, ticket: &ReplayTicket) -> bool {
        let Some(job) = self.jobs.get_mut(&ticket.replay) else { return false };
        let number = usize::try_from(ticket.item).unwrap_or(usize::MAX);
        let Some((_, item)) = job.items.get_mut(number).filter(|(_, item)| *item == ItemState::Skipped)
        else {
            return false;
        };
        *item = ItemState::Delivered;
        job.replay.skipped -= 1;
        job.replay.delivered += 1;
        true
    }
}

impl Memory {
    /// Settles an item. `false` if it is not there or was settled before.
    pub(super) fn settle_item(
        &self,
        state: &mut State,
        ticket: &ReplayTicket,
        to: ItemState,
        now: Timestamp,
    ) -> bool {
        let Some(job) = state.jobs.get_mut(&ticket.replay) else { return false };
        let number = usize::try_from(ticket.item).unwrap_or(usize::MAX);
        let Some((_, item)) = job.items.get_mut(number) else { return false };
        if *item != ItemState::Pending && !self.has(Defect::ItemSettledTwice) {
            return false;
        }
        *item = to;
        match to {
            ItemState::Delivered => job.replay.delivered += 1,
            ItemState::Failed => job.replay.failed += 1,
            ItemState::Skipped => job.replay.skipped += 1,
            ItemState::Pending => {}
        }
        if !job.replay.state.is_final() && job.items.iter().all(|(_, item)| *item != ItemState::Pending) {
            let failed = job.replay.failed > 0;
            job.replay.state = if failed { ReplayState::Failed } else { ReplayState::Succeeded };
            job.replay.finished_at = Some(now);
        }
        true
    }

    /// Gives back pending items of a replay that are not held: open letters, skipped.
    fn give_back(&self, state: &mut State, id: &str) {
        let held = if self.has(Defect::CancelTakesHeld) { BTreeSet::new() } else { held_items(state, id) };
        let State { jobs, letters, .. } = state;
        let Some(job) = jobs.get_mut(id) else { return };
        for (number, (letter, item)) in (0..).zip(&mut job.items) {
            let Some(letter) = letters.get_mut(letter) else { continue };
            if *item == ItemState::Pending && !held.contains(&number) {
                *item = ItemState::Skipped;
                job.replay.skipped += 1;
                letter.state = LetterState::Open;
            }
        }
    }

    /// Items that are pending and not held, with their letters.
    fn pending<'a>(&self, state: &'a State, id: &str) -> Vec<(u64, &'a DeadLetter)> {
        let held = if self.has(Defect::HeldItemGiven) { BTreeSet::new() } else { held_items(state, id) };
        let items = state.jobs.get(id).map(|job| job.items.as_slice()).unwrap_or_default();
        let pending = (0..)
            .zip(items)
            .filter(|(number, (_, item))| *item == ItemState::Pending && !held.contains(number));
        pending.filter_map(|(number, (letter, _))| Some((number, state.letters.get(letter)?))).collect()
    }
}

fn is_at(letter: &DeadLetter, flow: &FlowName, partition: &Partition) -> bool {
    letter.flow == *flow
        && letter.position.topic == partition.topic
        && letter.position.partition == partition.number
}

fn held_items(state: &State, id: &str) -> BTreeSet<u64> {
    let tickets = state.held.values().filter_map(|held| held.replay.as_ref());
    tickets.filter(|ticket| ticket.replay == id).map(|ticket| ticket.item).collect()
}

fn not_over<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Replay, StoreError> {
    let job =
        state.jobs.get_mut(id).ok_or_else(|| StoreError::NotFound { what: "replay", id: id.to_owned() })?;
    if job.replay.state.is_final() {
        return Err(StoreError::Conflict(format!("the replay is {}", job.replay.state.as_str())));
    }
    Ok(&mut job.replay)
}

#[async_trait]
impl Replays for Memory {
    async fn create(&self, new: NewReplay) -> Result<Replay, StoreError> {
        let mut state = self.lock();
        let mut letters: Vec<_> = state
            .letters
            .values_mut()
            .filter(|letter| letter.state == LetterState::Open && selects(&new.selection, letter))
            .collect();
        if letters.is_empty() {
            return Err(StoreError::Conflict("no open dead letter is selected".to_owned()));
        }
        letters.sort_by(|one, two| (&one.position, &one.flow).cmp(&(&two.position, &two.flow)));
        letters.iter_mut().for_each(|letter| letter.state = LetterState::Replaying);
        let items: Vec<_> = letters.iter().map(|letter| (letter.id.clone(), ItemState::Pending)).collect();
        state.last_replay += 1;
        let replay = Replay {
            id: format!("r{:026}", state.last_replay),
            state: ReplayState::Running,
            selection: new.selection,
            rate: new.rate,
            actor: new.act.actor.clone(),
            reason: new.act.reason.clone(),
            total: items.len() as u64,
            delivered: 0,
            failed: 0,
            skipped: 0,
            created_at: self.0.clock.now(),
            finished_at: None,
            test: new.test,
            tried: None,
        };
        state.audit.push((new.act, "replay", replay.total));
        let bucket = Bucket { tokens: 1.0, filled_at: replay.created_at };
        state.jobs.insert(replay.id.clone(), Job { replay: replay.clone(), items, bucket });
        Ok(replay)
    }

    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        Ok(self.lock().jobs.get(id).map(|job| job.replay.clone()))
    }

    async fn list(&self, page: PageRequest) -> Result<Page<Replay>, StoreError> {
        let state = self.lock();
        page_of(state.jobs.values().map(|job| (job.replay.id.clone(), job.replay.clone())), &page, "replays")
    }

    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError> {
        let state = self.lock();
        let replays = state.jobs.values().map(|job| &job.replay);
        Ok(replays.filter(|replay| !replay.state.is_final()).cloned().collect())
    }

    async fn places(&self, id: &str) -> Result<Vec<(FlowName, Partition)>, StoreError> {
        let state = self.lock();
        let places: BTreeSet<_> = (self.pending(&state, id).into_iter())
            .map(|(_, letter)| {
                let position = &letter.position;
                let partition = Partition { topic: position.topic.clone(), number: position.partition };
                (letter.flow.clone(), partition)
            })
            .collect();
        Ok(places.into_iter().collect())
    }

    async fn items(
        &self,
        id: &str,
        flow: &FlowName,
        partition: &Partition,
        from: u64,
        limit: usize,
    ) -> Result<Vec<ReplayItem>, StoreError> {
        let mut state = self.lock();
        if self.has(Defect::ReplayNotFrozen) {
            thaw(&mut state, id);
        }
        let here = |letter: &DeadLetter| is_at(letter, flow, partition) || self.has(Defect::ItemsOfAnyPlace);
        let items = (self.pending(&state, id).into_iter())
            .filter(|(item, letter)| *item >= from && here(letter))
            .take(limit)
            .map(|(item, letter)| {
                let ticket = ReplayTicket { replay: id.to_owned(), item, letter: letter.id.clone() };
                ReplayItem { ticket, letter: letter.clone() }
            });
        Ok(items.collect())
    }

    async fn allow(&self, id: &str, want: u64) -> Result<u64, StoreError> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let Some(job) = state.jobs.get_mut(id) else { return Ok(0) };
        match job.replay.rate {
            Some(rate) if !self.has(Defect::RateOfEachWorker) => Ok(job.bucket.take(rate, want, now)),
            _ => Ok(want),
        }
    }

    async fn change(&self, id: &str, to: ReplayState, act: &Act) -> Result<Replay, StoreError> {
        let mut state = self.lock();
        let now = self.0.clock.now();
        let replay = not_over(&mut state, id)?;
        if matches!(to, ReplayState::Succeeded | ReplayState::Failed) {
            return Err(StoreError::Conflict(format!("a replay cannot be told to be {}", to.as_str())));
        }
        replay.state = to;
        if to == ReplayState::Cancelled {
            replay.finished_at = Some(now);
            if !self.has(Defect::CancelStrands) {
                self.give_back(&mut state, id);
            }
        }
        state.audit.push((act.clone(), "replay", 1));
        Ok(state.jobs[id].replay.clone())
    }

    async fn tried(&self, id: &str, tried: &Tried) -> Result<(), StoreError> {
        let mut state = self.lock();
        if let Some(job) = state.jobs.get_mut(id).filter(|_| !self.has(Defect::TriedForgotten)) {
            job.replay.tried = Some(tried.clone());
        }
        Ok(())
    }

    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError> {
        let mut state = self.lock();
        let replay = not_over(&mut state, id)?;
        replay.rate = rate;
        let replay = replay.clone();
        state.audit.push((act.clone(), "replay", 1));
        Ok(replay)
    }
}

/// The defect: letters that are open now join the replay.
fn thaw(state: &mut State, id: &str) {
    let Some(job) = state.jobs.get_mut(id) else { return };
    for letter in state.letters.values_mut().filter(|letter| selects(&job.replay.selection, letter)) {
        letter.state = LetterState::Replaying;
        job.items.push((letter.id.clone(), ItemState::Pending));
    }
}
