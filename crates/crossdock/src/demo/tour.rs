//! The demo while it runs: hears what the hub tells, does what the script says, and judges by the ledgers.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use crossdock_core::RetryPolicy;
use crossdock_engine::{Hub, Moment};
use crossdock_sim::{Quirk, Sent, Shop};
use jiff::Timestamp;
use tokio::{sync::broadcast, time::MissedTickBehavior};

use super::{
    evidence::{self, Verdict},
    glance::Glance,
    line::{Line, Mark},
    screen::Screen,
    script::{Act, Script},
    sights::{FIRST_WITHIN, Sight, Sights},
    story::Story,
    systems::Systems,
    typed::Typed,
};

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Deliveries that make a normal flow.
const NORMAL_CRM: usize = 8;
const NORMAL_WAREHOUSE: usize = 2;
/// What the CRM asks for, in whole seconds as the header has it.
const PAUSE: Duration = Duration::from_secs(3);
/// How often the shop sends one webhook again.
const COPIES: usize = 3;
/// What the shop sells before the warehouse knows it.
const UNKNOWN_SKU: &str = "LAMP-X";

/// What a tour needs.
pub struct Parts<'s> {
    /// When the demo was started.
    pub began: Instant,
    /// CRM and warehouse.
    pub systems: &'s Systems,
    /// The hub.
    pub hub: Arc<Hub>,
    /// Where its API is.
    pub address: SocketAddr,
    /// How the flow to the CRM tries again.
    pub policy: RetryPolicy,
    /// How commands are typed.
    pub typed: Typed,
    /// Where lines go.
    pub screen: Screen,
    /// Lines of the log.
    pub logs: mpsc::Receiver<String>,
}

/// The demo while it runs.
pub struct Tour<'s> {
    parts: Parts<'s>,
    shop: Shop,
    moments: broadcast::Receiver<Moment>,
    script: Script,
    story: Story,
    sights: Sights,
    broken: Vec<Sight>,
    outage: Option<(Timestamp, Option<Timestamp>)>,
    copies: Option<Vec<Sent>>,
    throttled_from: Option<Timestamp>,
    odd: Option<Sent>,
    replay_told: bool,
    end_told: bool,
}

/// What is left of a tour.
pub struct Ended {
    /// Where lines go.
    pub screen: Screen,
    /// How commands are typed.
    pub typed: Typed,
    /// What was seen.
    pub sights: Sights,
}

impl<'s> Tour<'s> {
    /// Opens the shop and begins to look.
    pub fn begin(parts: Parts<'s>) -> Self {
        let moments = parts.hub.moments();
        let shop = parts.systems.open_shop(parts.address);
        Self {
            parts,
            shop,
            moments,
            script: Script::default(),
            story: Story::default(),
            sights: Sights::default(),
            broken: Vec::new(),
            outage: None,
            copies: None,
            throttled_from: None,
            odd: None,
            replay_told: false,
            end_told: false,
        }
    }

    /// Runs until it is dropped; returns only if nobody reads any more, or the hub cannot be asked.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.hear()?;
            self.judge_all()?;
            if let Some(act) = self.script.due(self.now(), &self.sights) {
                self.perform(act).await?;
            }
            if self.parts.screen.wants_glance(self.now()) {
                let glance = Glance::take(&self.parts.hub).await?;
                self.parts.screen.glance(self.now(), &glance)?;
            }
        }
    }

    /// The shop sends nothing more.
    pub fn close_shop(&self) {
        self.shop.pause();
    }

    /// Tells the rest, after the hub has stopped.
    pub async fn end(mut self) -> io::Result<Ended> {
        self.hear()?;
        self.judge_all()?;
        self.shop.stop().await;
        let Parts { screen, typed, .. } = self.parts;
        Ok(Ended { screen, typed, sights: self.sights })
    }

    fn now(&self) -> Duration {
        self.parts.began.elapsed()
    }

    fn say(&mut self, mark: Mark, text: impl Into<String>) -> io::Result<()> {
        let line = Line::new(self.now(), mark, text);
        self.parts.screen.line(&line)
    }

    /// A line of the demo itself, at any time.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.say(Mark::Note, text)
    }

    fn hear(&mut self) -> io::Result<()> {
        while let Ok(line) = self.parts.logs.try_recv() {
            self.parts.screen.log(&line)?;
        }
        loop {
            let moment = match self.moments.try_recv() {
                Ok(moment) => moment,
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    self.say(Mark::Note, format!("{missed} moments went by unseen: this machine is busy"))?;
                    continue;
                }
                Err(_) => return Ok(()),
            };
            let now = self.now();
            let names = |id: &str| name(&self.shop, id);
            for line in self.story.hear(&moment, now, &names) {
                self.parts.screen.line(&line)?;
            }
        }
    }

    async fn perform(&mut self, act: Act) -> io::Result<()> {
        let systems = self.parts.systems;
        match act {
            Act::Break => {
                self.outage = Some((Timestamp::now(), None));
                systems.break_crm();
                self.say(Mark::Act, "the CRM goes down: 503 to everything, while the shop goes on selling")
            }
            Act::Recover => {
                systems.recover();
                self.outage = self.outage.map(|(from, _)| (from, Some(Timestamp::now())));
                self.say(Mark::Act, "the CRM is back")
            }
            Act::Repeat => self.repeat().await,
            Act::Throttle => {
                self.throttled_from = Some(Timestamp::now());
                systems.throttle_crm(PAUSE);
                self.say(
                    Mark::Act,
                    format!("the CRM asks for a pause: 429, Retry-After: {}", PAUSE.as_secs()),
                )
            }
            Act::SellUnknown => {
                let text = format!("the shop sells {UNKNOWN_SKU}, which the warehouse does not know");
                self.say(Mark::Act, text)?;
                self.odd = Some(self.shop.send_odd(Quirk::Sku(UNKNOWN_SKU.to_owned())).await);
                Ok(())
            }
            Act::Stock => self.stock(),
        }
    }

    /// Sends the last webhook again. The pace pauses, so that it stays the last one.
    async fn repeat(&mut self) -> io::Result<()> {
        self.shop.pause();
        let mut copies = Vec::new();
        for _ in 0..COPIES {
            copies.extend(self.shop.resend_last().await);
        }
        self.shop.resume();
        let what = copies.first().map(|copy| name(&self.shop, &copy.id)).unwrap_or_default();
        self.say(Mark::Act, format!("the shop sends {what} again, {} times, with its id", copies.len()))?;
        self.copies = Some(copies);
        Ok(())
    }

    /// Mends the cause of the dead letter, and says how to replay it.
    fn stock(&mut self) -> io::Result<()> {
        self.parts.systems.warehouse.learn(UNKNOWN_SKU);
        let text = format!("the warehouse knows {UNKNOWN_SKU} now, so a replay will arrive");
        let line = Line::new(self.now(), Mark::Act, text);
        let letter = self.odd.as_ref().and_then(|odd| self.story.dead.get(&odd.id)).cloned();
        let Some(letter) = letter else { return self.parts.screen.line(&line) };
        let replay =
            format!("replay create --id {letter} --reason \"{UNKNOWN_SKU} is there now\" --yes --wait");
        let line = line.command("replay it:", self.parts.typed.remote(&replay));
        self.parts.screen.line(&line)?;
        if self.sights.has(Sight::DeadLetter) {
            self.sights.see(Sight::Commands);
        }
        Ok(())
    }

    fn judge_all(&mut self) -> io::Result<()> {
        self.judge_first()?;
        self.judge_normal()?;
        self.judge_outage()?;
        self.judge_duplicates()?;
        self.judge_throttle()?;
        self.judge_dead_letter()?;
        self.judge_replay()?;
        self.tell_the_end()
    }

    fn is_open(&self, sight: Sight) -> bool {
        !self.sights.has(sight) && !self.broken.contains(&sight)
    }

    fn judge(&mut self, sight: Sight, verdict: Verdict) -> io::Result<()> {
        match verdict {
            Verdict::NotYet => Ok(()),
            Verdict::Kept(how) => {
                self.sights.see(sight);
                self.say(Mark::Good, how)
            }
            Verdict::Broken(how) => {
                self.broken.push(sight);
                self.say(Mark::Bad, format!("the demo promised {}: {how}", sight.promise()))
            }
        }
    }

    fn judge_first(&mut self) -> io::Result<()> {
        let now = self.now();
        if !self.is_open(Sight::First) || self.story.delivered.is_empty() {
            return Ok(());
        }
        if now <= FIRST_WITHIN {
            self.sights.see(Sight::First);
            return Ok(());
        }
        self.judge(Sight::First, Verdict::Broken(format!("it took {:.1} s", now.as_secs_f64())))
    }

    fn judge_normal(&mut self) -> io::Result<()> {
        let delivered = |connection| self.story.delivered.get(connection).copied().unwrap_or_default();
        let (crm, warehouse) = (delivered("crm"), delivered("warehouse"));
        if !self.is_open(Sight::Normal) || crm < NORMAL_CRM || warehouse < NORMAL_WAREHOUSE {
            return Ok(());
        }
        let entries = self.parts.systems.crm.ledger().entries();
        let verdict = match evidence::arrival(self.shop.sent().iter(), &entries).out_of_order {
            0 => Verdict::Kept(format!(
                "all is well: the CRM has {crm} events, the warehouse {warehouse} new orders\nfrom here on only what \
                 is notable gets a line"
            )),
            count => Verdict::Broken(format!("{count} events came out of order")),
        };
        self.judge(Sight::Normal, verdict)
    }

    fn judge_outage(&mut self) -> io::Result<()> {
        let Some((from, Some(until))) = self.outage.filter(|_| self.is_open(Sight::Outage)) else {
            return Ok(());
        };
        let entries = self.parts.systems.crm.ledger().entries();
        let verdict = evidence::outage(&self.shop.sent(), &entries, from, until, &self.parts.policy);
        self.judge(Sight::Outage, verdict)
    }

    fn judge_duplicates(&mut self) -> io::Result<()> {
        let Some(copies) = self.copies.as_ref().filter(|_| self.is_open(Sight::Duplicate)) else {
            return Ok(());
        };
        let swallowed = self.story.swallowed(copies.iter().map(|copy| copy.id.as_str()));
        let entries = self.parts.systems.crm.ledger().entries();
        let verdict = evidence::duplicates(copies, swallowed, &entries);
        self.judge(Sight::Duplicate, verdict)
    }

    fn judge_throttle(&mut self) -> io::Result<()> {
        let Some(from) = self.throttled_from.filter(|_| self.is_open(Sight::Throttle)) else { return Ok(()) };
        let entries = self.parts.systems.crm.ledger().entries();
        let verdict = evidence::throttle(&entries, from, PAUSE, &self.story.throttled());
        self.judge(Sight::Throttle, verdict)
    }

    fn judge_dead_letter(&mut self) -> io::Result<()> {
        let Some(odd) = self.odd.as_ref().filter(|_| self.is_open(Sight::DeadLetter)) else { return Ok(()) };
        let Some(letter) = self.story.dead.get(&odd.id) else { return Ok(()) };
        let text = format!("{} is kept whole, and everything else flows on", name(&self.shop, &odd.id));
        let show = self.parts.typed.remote(&format!("failures show {letter}"));
        let line = Line::new(self.now(), Mark::Good, text).command("see it:", show);
        self.sights.see(Sight::DeadLetter);
        self.parts.screen.line(&line)
    }

    /// A replay by the person: whether the warehouse saw one and the same delivery twice.
    fn judge_replay(&mut self) -> io::Result<()> {
        let Some(odd) = self.odd.as_ref().filter(|odd| !self.replay_told && self.story.was_replayed(&odd.id))
        else {
            return Ok(());
        };
        let entries = self.parts.systems.warehouse.ledger().entries();
        let tries: Vec<_> = entries
            .iter()
            .filter(|entry| (entry.key.as_deref(), entry.seq) == (Some(odd.key.as_str()), Some(odd.seq)))
            .collect();
        let same = tries.windows(2).all(|pair| pair[0].webhook_id == pair[1].webhook_id);
        self.replay_told = true;
        match tries.last().is_some_and(|last| last.accepted()) && same {
            true => self.say(Mark::Good, "the warehouse has it, with the webhook-id of its first try"),
            false => self
                .say(Mark::Bad, "by the warehouse's ledger it did not arrive under the id of its first try"),
        }
    }

    fn tell_the_end(&mut self) -> io::Result<()> {
        if self.end_told || !self.script.is_over() || !self.sights.missing().is_empty() {
            return Ok(());
        }
        self.end_told = true;
        let typed = &self.parts.typed;
        let text = "that was the tour; it goes on until Ctrl-C\nin a second terminal you may try";
        let line = Line::new(self.parts.began.elapsed(), Mark::Note, text)
            .command("", typed.remote("status"))
            .command("", typed.remote("event list"))
            .command("", typed.remote("connection pause crm --reason \"to see its events wait\""))
            .command("", typed.remote("connection resume crm"));
        self.parts.screen.line(&line)
    }
}

/// What an event is called: by its order, if the shop remembers it.
fn name(shop: &Shop, id: &str) -> String {
    match shop.find(id) {
        Some(sent) => {
            let what = sent.topic.trim_start_matches("orders/");
            let what = if what == "create" { "created" } else { what };
            format!("order {} ({what})", sent.order)
        }
        None => format!("event {id}"),
    }
}
