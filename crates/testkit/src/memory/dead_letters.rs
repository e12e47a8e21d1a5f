//! Dead letters and their groups.

use async_trait::async_trait;
use crossdock_core::{
    Act, DeadLetter, DeadLetters, FailureGroup, LetterState, LetterSummary, Page, PageRequest, Position,
    Selection, StoreError,
};
use jiff::Timestamp;

use crate::letters::summary;

use super::{Defect, Memory, State, page_of, sortable};

/// What a group remembers beyond its letters.
pub(super) struct GroupHistory {
    first_at: Timestamp,
    last_at: Timestamp,
    message: String,
    advice: Option<String>,
}

pub(super) fn selects(selection: &Selection, letter: &DeadLetter) -> bool {
    fn any<T: PartialEq>(of: &[T], this: &T) -> bool {
        of.is_empty() || of.contains(this)
    }
    any(&selection.groups, &letter.group)
        && any(&selection.ids, &letter.id)
        && any(&selection.events, &letter.event.id)
        && selection.flow.as_ref().is_none_or(|flow| *flow == letter.flow)
        && selection.connection.as_ref().is_none_or(|connection| *connection == letter.connection)
        && selection.class.is_none_or(|class| class == letter.class)
        && selection.state.unwrap_or(LetterState::Open) == letter.state
        && selection.since.is_none_or(|since| letter.failed_at >= since)
}

impl Memory {
    pub(super) fn note_group(&self, state: &mut State, letter: &DeadLetter) {
        let group = state.groups.entry(letter.group.clone()).or_insert_with(|| GroupHistory {
            first_at: letter.failed_at,
            last_at: letter.failed_at,
            message: String::new(),
            advice: None,
        });
        group.first_at = group.first_at.min(letter.failed_at);
        group.last_at = group.last_at.max(letter.failed_at);
        group.message.clone_from(&letter.message);
        group.advice.clone_from(&letter.advice);
    }
}

fn group_of(state: &State, letter: &DeadLetter, count: u64) -> FailureGroup {
    let history = &state.groups[&letter.group];
    let has =
        |wanted| state.letters.values().any(|other| other.group == letter.group && other.state == wanted);
    let order = [LetterState::Open, LetterState::Replaying, LetterState::Replayed];
    FailureGroup {
        id: letter.group.clone(),
        count,
        state: order.into_iter().find(|state| has(*state)).unwrap_or(LetterState::Discarded),
        flow: letter.flow.clone(),
        connection: letter.connection.clone(),
        step: letter.step.clone(),
        action: letter.action.clone(),
        class: letter.class,
        status: letter.status,
        code: letter.code.clone(),
        message: history.message.clone(),
        advice: history.advice.clone(),
        first_at: history.first_at,
        last_at: history.last_at,
    }
}

#[async_trait]
impl DeadLetters for Memory {
    async fn groups(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<FailureGroup>, StoreError> {
        let state = self.lock();
        let selected: Vec<_> = state.letters.values().filter(|letter| selects(selection, letter)).collect();
        let groups = state.groups.keys().filter_map(|id| {
            let letters: Vec<_> = selected.iter().filter(|letter| letter.group == *id).collect();
            let group = group_of(&state, letters.first()?, letters.len() as u64);
            // Ids ascend within a count: each character's complement sorts the other way round.
            let id: String = id.as_str().bytes().map(|byte| format!("{:03}", 255 - byte)).collect();
            Some((format!("{:020}/{id}", group.count), group))
        });
        page_of(groups.collect::<Vec<_>>(), &page, "groups")
    }

    async fn list(
        &self,
        selection: &Selection,
        page: PageRequest,
    ) -> Result<Page<LetterSummary>, StoreError> {
        let state = self.lock();
        let selected = state.letters.values().filter(|letter| selects(selection, letter));
        let all: Vec<_> = selected
            .map(|letter| (format!("{}/{}", sortable(letter.failed_at), letter.id), summary(letter)))
            .collect();
        if self.has(Defect::PageByNumber) { by_number(all, &page) } else { page_of(all, &page, "letters") }
    }

    async fn count(&self, selection: &Selection) -> Result<u64, StoreError> {
        Ok(self.lock().letters.values().filter(|letter| selects(selection, letter)).count() as u64)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let state = self.lock();
        if let Some(letter) = state.letters.get(id) {
            return Ok(Some(letter.clone()));
        }
        let found: Vec<_> = state.letters.values().filter(|letter| letter.event.id == id).collect();
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some((*one).clone())),
            several => {
                let ids: Vec<_> = several.iter().map(|letter| letter.id.as_str()).collect();
                Err(StoreError::Conflict(format!(
                    "several deliveries of the event `{id}` died: name one of {}",
                    ids.join(", ")
                )))
            }
        }
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<LetterSummary>, StoreError> {
        let state = self.lock();
        Ok(state.letters.values().filter(|letter| letter.position == *position).map(summary).collect())
    }

    async fn discard(&self, selection: &Selection, act: &Act) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let open = |letter: &&mut DeadLetter| letter.state == LetterState::Open && selects(selection, letter);
        let mut count = 0;
        for letter in state.letters.values_mut().filter(open) {
            letter.state = LetterState::Discarded;
            count += 1;
        }
        state.audit.push((act.clone(), "discard", count));
        Ok(count)
    }
}

/// The defect: a cursor is how many items were given.
fn by_number(
    mut all: Vec<(String, LetterSummary)>,
    page: &PageRequest,
) -> Result<Page<LetterSummary>, StoreError> {
    all.sort_by(|(one, _), (two, _)| two.cmp(one));
    let given: usize = page.cursor.as_deref().unwrap_or("0").parse().map_err(|_| StoreError::BadCursor)?;
    let items: Vec<_> = all.iter().skip(given).take(page.limit).map(|(_, letter)| letter.clone()).collect();
    let end = given + items.len();
    Ok(Page { items, next: (end < all.len()).then(|| end.to_string()) })
}
