//! What happens when. Pure: the time comes in as an argument.

use std::time::Duration;

use super::sights::{Sight, Sights};

/// Something that is done to the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The CRM goes down.
    Break,
    /// The CRM is back.
    Recover,
    /// The shop sends a webhook again.
    Repeat,
    /// The CRM asks for a pause.
    Throttle,
    /// The shop sells what the warehouse does not know.
    SellUnknown,
    /// The warehouse gets to know it.
    Stock,
}

/// An act, the earliest time for it after the start, and what should have been seen before.
const STEPS: [(Act, Duration, Sight); 6] = [
    (Act::Break, Duration::from_secs(5), Sight::Normal),
    // Less than the first three waits of the schedule, 7 s less a tenth: nobody waits the fourth one, 8 s.
    (Act::Recover, Duration::from_secs(11), Sight::First),
    (Act::Repeat, Duration::from_millis(16_500), Sight::Outage),
    (Act::Throttle, Duration::from_millis(18_500), Sight::Duplicate),
    (Act::SellUnknown, Duration::from_millis(24_500), Sight::Throttle),
    (Act::Stock, Duration::from_millis(27_500), Sight::DeadLetter),
];

/// How long a step waits for what should have been seen before it. Then the demo goes on, and says at its end what it did
/// not show.
const PATIENCE: Duration = Duration::from_secs(8);

/// The script, and how far it has come.
#[derive(Debug, Default)]
pub struct Script {
    done: usize,
}

impl Script {
    /// The next act, if its time has come. Each is given out once.
    pub fn due(&mut self, elapsed: Duration, sights: &Sights) -> Option<Act> {
        let (act, at, before) = *STEPS.get(self.done)?;
        let ready = elapsed >= at && sights.has(before);
        if !ready && elapsed < at + PATIENCE {
            return None;
        }
        self.done += 1;
        Some(act)
    }

    /// Whether every act was given out.
    pub fn is_over(&self) -> bool {
        self.done == STEPS.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the script in steps of 100 ms: when which act comes.
    fn play(sights: &Sights) -> Vec<(Act, u64)> {
        let (mut script, mut played) = (Script::default(), Vec::new());
        for millis in (0..60_000).step_by(100) {
            played.extend(script.due(Duration::from_millis(millis), sights).map(|act| (act, millis)));
        }
        assert!(script.is_over());
        played
    }

    #[test]
    fn everything_has_happened_well_before_forty_seconds() {
        let mut sights = Sights::default();
        Sight::ALL.into_iter().for_each(|sight| sights.see(sight));
        let played = play(&sights);
        let times: Vec<_> = played.iter().map(|(_, millis)| *millis).collect();
        assert_eq!(times, [5000, 11_000, 16_500, 18_500, 24_500, 27_500]);
        assert_eq!(played.last().map(|(act, _)| *act), Some(Act::Stock));
    }

    #[test]
    fn a_sight_that_does_not_come_delays_the_next_act_and_does_not_stop_the_script() {
        let mut sights = Sights::default();
        sights.see(Sight::First);
        let played = play(&sights);
        assert_eq!(played[0], (Act::Break, 13_000));
        assert_eq!(played[1].0, Act::Recover);
        assert_eq!(played.len(), STEPS.len());
    }
}
