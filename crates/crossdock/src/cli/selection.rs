//! Which dead letters, how fast, since when: arguments that become JSON.

use std::{str::FromStr, time::Duration};

use clap::Args;
use crossdock_core::{Class, ConnectionName, FlowName, GroupId, Selection};
use jiff::Timestamp;

use crate::config;

/// Conditions that narrow a set of dead letters.
#[derive(Debug, Clone, Default, Args)]
pub struct Conditions {
    /// Only of this flow
    #[arg(long, value_name = "NAME", value_parser = |name: &str| FlowName::new(name))]
    pub flow: Option<FlowName>,
    /// Only of this connection
    #[arg(long, value_name = "NAME", value_parser = |name: &str| ConnectionName::new(name))]
    pub connection: Option<ConnectionName>,
    /// Only of this class: transient, rejected, ambiguous, bug…
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<Class>,
    /// Only what failed since then: `24h`, or `2026-11-23T02:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
}

impl Conditions {
    /// As query parameters.
    pub fn query(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        query.extend(self.flow.as_ref().map(|flow| ("flow", flow.to_string())));
        query.extend(self.connection.as_ref().map(|connection| ("connection", connection.to_string())));
        query.extend(self.class.map(|class| ("class", class.to_string())));
        query.extend(self.since.map(|since| ("since", since.at(now).to_string())));
        query
    }
}

/// A set of dead letters that something is done to: named ones, or all that meet conditions.
#[derive(Debug, Clone, Args)]
#[group(id = "selected", required = true, multiple = true, args = ["group", "event", "letter", "all"])]
pub struct Selected {
    /// Every open dead letter of this failure group; may be repeated
    #[arg(long, value_name = "ID")]
    pub group: Vec<String>,
    /// The open dead letters of this event; may be repeated
    #[arg(long, value_name = "ID")]
    pub event: Vec<String>,
    /// This dead letter; may be repeated
    #[arg(id = "letter", long = "id", value_name = "ID")]
    pub letter: Vec<String>,
    /// Every open dead letter that meets the conditions
    #[arg(long, conflicts_with_all = ["group", "event", "letter"])]
    pub all: bool,
    #[command(flatten)]
    pub conditions: Conditions,
}

impl Selected {
    /// As the API takes it.
    pub fn selection(&self, now: Timestamp) -> Selection {
        Selection {
            groups: self.group.iter().cloned().map(GroupId::from).collect(),
            ids: self.letter.clone(),
            events: self.event.clone(),
            flow: self.conditions.flow.clone(),
            connection: self.conditions.connection.clone(),
            class: self.conditions.class,
            state: None,
            since: self.conditions.since.map(|since| since.at(now)),
        }
    }
}

/// A moment, or a time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Since {
    /// The moment.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(duration) = config::duration(text) {
            return Ok(Self::Ago(duration));
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("write how long ago, or a moment such as 2026-11-23T02:00:00Z; {}", config::DURATION_HELP)
        })
    }
}

/// Items a second; none for as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub Option<f64>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self(None)),
            _ => config::rate(text).map(|rate| Self(Some(rate))).ok_or_else(|| config::RATE_HELP.to_owned()),
        }
    }
}

fn class(name: &str) -> Result<Class, String> {
    Class::parse(name).ok_or_else(|| {
        "one of transient, throttled, auth_expired, auth_broken, rejected, already_done, ambiguous, bug"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_ago_or_a_moment() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Since>().unwrap().at(now).to_string();
        assert_eq!(at("24h"), "2026-11-23T12:00:00Z");
        assert_eq!(at("2026-11-23T02:00:00Z"), "2026-11-23T02:00:00Z");
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_rate_may_be_as_fast_as_it_goes() {
        assert_eq!("90/m".parse(), Ok(Rate(Some(1.5))));
        assert_eq!("max".parse(), Ok(Rate(None)));
        assert!("fast".parse::<Rate>().is_err());
    }
}
