//! Settlements: the one way in which deliveries change the state.

use async_trait::async_trait;
use crossdock_core::{
    Attempt, DeadLetter, HeldId, ItemState, LetterState, NewHeld, Owner, Placed, ReplayTicket, Settled,
    Settlement, Settlements, StoreError,
};
use jiff::Timestamp;

use super::{Defect, Memory, State};

#[async_trait]
impl Settlements for Memory {
    async fn settle(
        &self,
        owner: Option<&Owner>,
        batch: Vec<Settlement>,
    ) -> Result<Vec<Settled>, StoreError> {
        let mut state = self.lock();
        let fenced = owner.filter(|owner| !state.is_owner(owner) && !self.has(Defect::FenceOpen));
        let done = match fenced {
            None => batch.len(),
            Some(_) if self.has(Defect::FenceTooLate) => batch.len() / 2,
            Some(_) => 0,
        };
        let batch = batch.into_iter().take(done);
        let settled = batch.map(|settlement| self.settle_one(&mut state, settlement)).collect();
        match fenced {
            None => Ok(settled),
            Some(owner) => Err(StoreError::Fenced(format!("{} in {}", owner.partition, owner.flow))),
        }
    }
}

impl State {
    fn is_owner(&self, owner: &Owner) -> bool {
        let epoch = self.epochs.get(&(owner.flow.clone(), owner.partition.clone()));
        epoch == Some(&owner.epoch)
    }
}

impl Memory {
    fn settle_one(&self, state: &mut State, settlement: Settlement) -> Settled {
        let now = self.0.clock.now();
        match settlement {
            Settlement::Hold(rows) => {
                return Settled::Held(rows.into_iter().map(|row| self.hold(state, row)).collect());
            }
            Settlement::Again { held, attempts, tried, first_tried_at, due } => {
                if let Some(row) = state.held.get_mut(&held) {
                    *row = NewHeld { attempts, tried, first_tried_at, due: Some(due), ..row.clone() };
                }
            }
            Settlement::Delivered { held, replay } => {
                remove(state, held);
                if let Some(ticket) = replay
                    && let Some(letter_is) = self.item_delivered(state, &ticket, now)
                    && let Some(letter) = state.letters.get_mut(&ticket.letter)
                    && letter.state == letter_is
                {
                    letter.state = LetterState::Replayed;
                    letter.replays += 1;
                }
            }
            Settlement::DeadLetter { letter, held, replay } => {
                remove(state, held);
                self.bury(state, &letter, replay.as_ref(), now);
            }
        }
        Settled::Done
    }

    /// Marks an item as delivered, and says in which state its letter must be to count as replayed; none if there is nothing
    /// more to say of the item.
    fn item_delivered(
        &self,
        state: &mut State,
        ticket: &ReplayTicket,
        now: Timestamp,
    ) -> Option<LetterState> {
        if self.settle_item(state, ticket, ItemState::Delivered, now) {
            return Some(LetterState::Replaying);
        }
        let was_skipped = !self.has(Defect::SkippedForGood) && state.unskip(ticket);
        was_skipped.then_some(LetterState::Open)
    }

    fn hold(&self, state: &mut State, row: NewHeld) -> Placed {
        let same = |held: &NewHeld| {
            let is_there = held.flow == row.flow && held.position == row.position;
            is_there && (held.event.id == row.event.id || self.has(Defect::PositionAlone))
        };
        let known = state.held.iter().find(|(_, held)| same(held)).map(|(id, _)| *id);
        if let Some(id) = known.filter(|_| !self.has(Defect::HeldTwice)) {
            return Placed { id, new: false };
        }
        let last = state.held.keys().next_back().copied().unwrap_or_default();
        let id = if self.has(Defect::HeldIdUsedAgain) { last + 1 } else { state.last_held + 1 };
        state.last_held = id;
        state.held.insert(id, row);
        Placed { id, new: true }
    }

    fn bury(&self, state: &mut State, letter: &DeadLetter, ticket: Option<&ReplayTicket>, now: Timestamp) {
        let same = |other: &&mut DeadLetter| {
            let is_there = other.flow == letter.flow && other.position == letter.position;
            is_there && (other.event.id == letter.event.id || self.has(Defect::PositionAlone))
        };
        let Some(found) =
            state.letters.values_mut().find(same).filter(|_| !self.has(Defect::LetterWrittenTwice))
        else {
            let mut id = letter.id.clone();
            while state.letters.contains_key(&id) {
                id.push('x');
            }
            state.letters.insert(id.clone(), DeadLetter { id, ..letter.clone() });
            self.note_group(state, letter);
            return;
        };
        let id = found.id.clone();
        self.add_attempts(&mut found.attempts, &letter.attempts);
        if let Some(ticket) = ticket
            && self.settle_item(state, ticket, ItemState::Failed, now)
        {
            self.open_anew(state, &id, letter);
        }
    }

    fn add_attempts(&self, there: &mut Vec<Attempt>, given: &[Attempt]) {
        for attempt in given {
            if !there.contains(attempt) || self.has(Defect::AttemptsDoubled) {
                there.push(attempt.clone());
            }
        }
    }

    fn open_anew(&self, state: &mut State, id: &str, letter: &DeadLetter) {
        let found = state.letters.get_mut(id).expect("it was there a moment ago");
        *found = DeadLetter {
            id: found.id.clone(),
            state: LetterState::Open,
            position: found.position.clone(),
            flow: found.flow.clone(),
            event: found.event.clone(),
            attempts: std::mem::take(&mut found.attempts),
            replays: found.replays + 1,
            ..letter.clone()
        };
        self.note_group(state, letter);
    }
}

fn remove(state: &mut State, held: Option<HeldId>) {
    if let Some(held) = held {
        state.held.remove(&held);
    }
}
