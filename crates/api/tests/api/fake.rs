//! The ports in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_core::{
    Act, Action, Broker, BrokerError, Connection, Connections, DeadLetter, DeadLetters, Event, EventLog,
    FailureGroup, FlowName, Group, GroupId, GroupLag, HeldEvent, HeldEvents, HeldId, HeldKey, Inbound, Inbox,
    LetterState, LetterSummary, LoggedEvent, NewReplay, Outbox, Page, PageRequest, Partition, Position,
    PublishError, Published, Refusal, Replay, ReplayItem, ReplayState, Replays, Selection, Settled,
    Settlement, Settlements, StoreError, StoredConnection, Subscription, Topic, Webhook,
};
use jiff::Timestamp;

/// Every store port, and a broker whose log is what was appended.
#[derive(Default)]
pub struct Memory {
    pub log: Mutex<Vec<LoggedEvent>>,
    seen: Mutex<HashSet<(String, String)>>,
    /// What the next appends are answered with.
    pub refusal: Mutex<Option<PublishError>>,
    /// Whether reads fail.
    pub away: Mutex<bool>,
    pub letters: Mutex<Vec<DeadLetter>>,
    pub replays: Mutex<Vec<Replay>>,
    /// Every act, with what it was done to.
    pub acts: Mutex<Vec<(String, Act)>>,
}

impl Memory {
    fn check(&self) -> Result<(), StoreError> {
        if *self.away.lock().unwrap() {
            let source = std::io::Error::other("the disk is gone: /secret/place");
            return Err(StoreError::Unavailable { doing: "reading", source: source.into() });
        }
        Ok(())
    }

    fn note(&self, what: impl Into<String>, act: &Act) {
        self.acts.lock().unwrap().push((what.into(), act.clone()));
    }

    fn selected(&self, selection: &Selection) -> Vec<DeadLetter> {
        let meant = |letter: &&DeadLetter| {
            let among = |list: &[String], id: &String| list.is_empty() || list.contains(id);
            letter.state == selection.state.unwrap_or(LetterState::Open)
                && (selection.groups.is_empty() || selection.groups.contains(&letter.group))
                && among(&selection.ids, &letter.id)
                && among(&selection.events, &letter.event.id)
                && selection.flow.as_ref().is_none_or(|flow| *flow == letter.flow)
                && selection.class.is_none_or(|class| class == letter.class)
                && selection.since.is_none_or(|since| letter.failed_at >= since)
        };
        self.letters.lock().unwrap().iter().filter(meant).cloned().collect()
    }
}

/// A page of a list; the cursor is the index.
fn page<T>(items: Vec<T>, request: &PageRequest) -> Result<Page<T>, StoreError> {
    let from = request
        .cursor
        .as_deref()
        .map_or(Ok(0), |cursor| cursor.parse().map_err(|_| StoreError::BadCursor))?;
    let (all, until) = (items.len(), from + request.limit);
    let items = items.into_iter().skip(from).take(request.limit).collect();
    Ok(Page { items, next: (until < all).then(|| until.to_string()) })
}

#[async_trait]
impl Outbox for Memory {
    async fn append(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        let refusal = self.refusal.lock().unwrap().clone();
        let append = |event: Event| {
            if let Some(refusal) = refusal.clone().filter(|_| event.id != "always") {
                return Err(refusal);
            }
            if !self.seen.lock().unwrap().insert((event.source.clone(), event.id.clone())) {
                return Ok(Published::Duplicate);
            }
            let mut log = self.log.lock().unwrap();
            let position = Position { topic: topic.clone(), partition: 0, offset: log.len() as u64 };
            let accepted_at = Timestamp::UNIX_EPOCH;
            log.push(LoggedEvent { position: position.clone(), accepted_at, event: Arc::new(event) });
            Ok(Published::New(Some(position)))
        };
        events.into_iter().map(append).collect()
    }
}

#[async_trait]
impl EventLog for Memory {
    async fn list(
        &self,
        topic: Option<&Topic>,
        request: PageRequest,
    ) -> Result<Page<LoggedEvent>, StoreError> {
        self.check()?;
        let log = self.log.lock().unwrap().clone();
        let meant = |logged: &LoggedEvent| topic.is_none_or(|topic| *topic == logged.position.topic);
        page(log.into_iter().rev().filter(meant).collect(), &request)
    }

    async fn find(&self, id: &str) -> Result<Vec<LoggedEvent>, StoreError> {
        self.check()?;
        let log = self.log.lock().unwrap().clone();
        Ok(log.into_iter().rev().filter(|logged| logged.event.id == id).collect())
    }

    async fn is_complete(&self, _: &FlowName, _: &Position) -> Result<bool, StoreError> {
        Ok(true)
    }
}

#[async_trait]
impl DeadLetters for Memory {
    async fn groups(
        &self,
        selection: &Selection,
        request: PageRequest,
    ) -> Result<Page<FailureGroup>, StoreError> {
        self.check()?;
        let mut groups: HashMap<GroupId, Vec<DeadLetter>> = HashMap::new();
        for letter in self.selected(selection) {
            groups.entry(letter.group.clone()).or_default().push(letter);
        }
        let mut groups: Vec<_> = groups.into_values().map(|letters| group(&letters)).collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.id.clone()));
        page(groups, &request)
    }

    async fn list(
        &self,
        selection: &Selection,
        request: PageRequest,
    ) -> Result<Page<LetterSummary>, StoreError> {
        self.check()?;
        page(self.selected(selection).iter().rev().map(summary).collect(), &request)
    }

    async fn count(&self, selection: &Selection) -> Result<u64, StoreError> {
        Ok(self.selected(selection).len() as u64)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.check()?;
        Ok(self
            .letters
            .lock()
            .unwrap()
            .iter()
            .find(|letter| letter.id == id || letter.event.id == id)
            .cloned())
    }

    async fn of_event(&self, position: &Position) -> Result<Vec<LetterSummary>, StoreError> {
        let letters = self.letters.lock().unwrap();
        Ok(letters.iter().filter(|letter| letter.position == *position).map(summary).collect())
    }

    async fn discard(&self, selection: &Selection, act: &Act) -> Result<u64, StoreError> {
        let ids: Vec<_> = self.selected(selection).into_iter().map(|letter| letter.id).collect();
        for letter in self.letters.lock().unwrap().iter_mut().filter(|letter| ids.contains(&letter.id)) {
            letter.state = LetterState::Discarded;
        }
        self.note(format!("discard {}", ids.len()), act);
        Ok(ids.len() as u64)
    }
}

fn summary(letter: &DeadLetter) -> LetterSummary {
    LetterSummary {
        id: letter.id.clone(),
        state: letter.state,
        group: letter.group.clone(),
        event: letter.event.id.clone(),
        kind: letter.event.kind.clone(),
        key: letter.key.clone(),
        flow: letter.flow.clone(),
        connection: letter.connection.clone(),
        class: letter.class,
        status: letter.status,
        code: letter.code.clone(),
        message: letter.message.clone(),
        attempts: letter.attempts.len() as u32,
        replays: letter.replays,
        failed_at: letter.failed_at,
    }
}

fn group(letters: &[DeadLetter]) -> FailureGroup {
    let last = letters.last().unwrap();
    FailureGroup {
        id: last.group.clone(),
        count: letters.len() as u64,
        state: last.state,
        flow: last.flow.clone(),
        connection: last.connection.clone(),
        step: last.step.clone(),
        action: last.action.clone(),
        class: last.class,
        status: last.status,
        code: last.code.clone(),
        message: last.message.clone(),
        advice: last.advice.clone(),
        first_at: letters[0].failed_at,
        last_at: last.failed_at,
    }
}

#[async_trait]
impl Replays for Memory {
    async fn create(&self, new: NewReplay) -> Result<Replay, StoreError> {
        let total = self.selected(&new.selection).len() as u64;
        if total == 0 {
            return Err(StoreError::Conflict("no open dead letter is meant by that".to_owned()));
        }
        let mut replays = self.replays.lock().unwrap();
        let replay = Replay {
            id: format!("r{}", replays.len()),
            state: ReplayState::Running,
            selection: new.selection,
            rate: new.rate,
            actor: new.act.actor.clone(),
            reason: new.act.reason.clone(),
            total,
            delivered: 0,
            failed: 0,
            skipped: 0,
            created_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        };
        replays.push(replay.clone());
        self.note("replay", &new.act);
        Ok(replay)
    }

    async fn get(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        Ok(self.replays.lock().unwrap().iter().find(|replay| replay.id == id).cloned())
    }

    async fn list(&self, request: PageRequest) -> Result<Page<Replay>, StoreError> {
        page(self.replays.lock().unwrap().iter().rev().cloned().collect(), &request)
    }

    async fn unfinished(&self) -> Result<Vec<Replay>, StoreError> {
        Ok(Vec::new())
    }

    async fn items(&self, _: &str, _: u64, _: usize) -> Result<Vec<ReplayItem>, StoreError> {
        Ok(Vec::new())
    }

    async fn change(&self, id: &str, state: ReplayState, _: u64, act: &Act) -> Result<Replay, StoreError> {
        self.note(format!("{id} {}", state.as_str()), act);
        self.set(id, |replay| replay.state = state)
    }

    async fn set_rate(&self, id: &str, rate: Option<f64>, act: &Act) -> Result<Replay, StoreError> {
        self.note(format!("{id} at {rate:?}"), act);
        self.set(id, |replay| replay.rate = rate)
    }
}

impl Memory {
    fn set(&self, id: &str, change: impl FnOnce(&mut Replay)) -> Result<Replay, StoreError> {
        let mut replays = self.replays.lock().unwrap();
        let replay = replays.iter_mut().find(|replay| replay.id == id);
        let replay = replay.ok_or_else(|| StoreError::NotFound { what: "replay", id: id.to_owned() })?;
        change(replay);
        Ok(replay.clone())
    }
}

#[async_trait]
impl Connections for Memory {
    async fn load(&self) -> Result<Vec<StoredConnection>, StoreError> {
        self.check().map(|()| Vec::new())
    }

    async fn save(&self, connection: &StoredConnection, act: Option<&Act>) -> Result<(), StoreError> {
        if let Some(act) = act {
            self.note(format!("{} {}", connection.name, connection.state.as_str()), act);
        }
        Ok(())
    }
}

#[async_trait]
impl Settlements for Memory {
    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        Ok(batch.iter().map(|_| Settled::Done).collect())
    }
}

#[async_trait]
impl HeldEvents for Memory {
    async fn adopt(&self, _: &FlowName, _: &Partition) -> Result<Vec<HeldKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn due(
        &self,
        _: &FlowName,
        _: &Partition,
        _: Timestamp,
        _: Option<(Timestamp, HeldId)>,
        _: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        Ok(Vec::new())
    }

    async fn behind(
        &self,
        _: &FlowName,
        _: &Partition,
        _: u64,
        _: HeldId,
        _: usize,
    ) -> Result<Vec<HeldEvent>, StoreError> {
        Ok(Vec::new())
    }

    async fn count(&self, _: &FlowName) -> Result<(u64, Option<Timestamp>), StoreError> {
        Ok((0, None))
    }

    async fn of_event(&self, _: &Position) -> Result<Vec<HeldEvent>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Broker for Memory {
    async fn publish(&self, topic: &Topic, events: Vec<Event>) -> Vec<Result<Published, PublishError>> {
        self.append(topic, events).await
    }

    async fn subscribe(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Subscription>, BrokerError> {
        Err(BrokerError::Closed)
    }

    async fn lag(&self, _: &Group) -> Result<Vec<GroupLag>, BrokerError> {
        Ok(Vec::new())
    }
}

/// A vendor whose signature is the word `good`; its handshake is a body `hello`.
pub struct Vendor;

impl Connection for Vendor {
    fn webhook(&self) -> Option<Arc<dyn Webhook>> {
        Some(Arc::new(Self))
    }

    fn action(&self, _: &str) -> Option<Arc<dyn Action>> {
        None
    }
}

impl Webhook for Vendor {
    fn handle(&self, request: &Inbound, _: Timestamp) -> Inbox {
        if request.header("x-signature") != Some("good") {
            return Inbox::Refuse(Refusal::Unauthorized("the signature does not match".to_owned()));
        }
        if request.body == "hello" {
            let body = Bytes::from(format!("{} {}", request.method, request.uri));
            return Inbox::Reply { status: 200, content_type: "text/plain", body };
        }
        let Some(id) = request.header("x-delivery") else {
            let refusal =
                Refusal::Malformed { message: "no delivery id".to_owned(), pointer: Some("/id".to_owned()) };
            return Inbox::Refuse(refusal);
        };
        Inbox::Accept(vec![event(id, &request.body)])
    }
}

/// An event of the vendor.
pub fn event(id: &str, data: &Bytes) -> Event {
    Event {
        id: id.to_owned(),
        source: "/vendor".to_owned(),
        kind: "order.paid".to_owned(),
        subject: None,
        time: None,
        content_type: Some("application/json".to_owned()),
        schema: None,
        key: Some("k1".to_owned()),
        extensions: Vec::new(),
        data: data.clone(),
    }
}
