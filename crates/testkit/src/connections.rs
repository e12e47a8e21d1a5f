//! Promises about the states of connections.

use std::sync::Arc;

use crossdock_core::{ConnectionState, Connections, StoredConnection};

use crate::{
    HasStore,
    sample::{DAY, SECOND, act, connection, now, setup},
};

/// What was written last is there, for each connection, after a restart and after a crash.
pub async fn states_outlive_a_restart<S: HasStore>() {
    let setup = setup();
    let mut subject = S::create(&setup).await;
    assert_eq!(subject.connections().load().await.expect("the store reads"), []);
    let stored = |name: &str, state, detail: Option<&str>, seconds: u32| StoredConnection {
        name: connection(name),
        state,
        detail: detail.map(str::to_owned),
        since: now(&setup) + seconds * SECOND,
    };
    let writes = [
        (stored("crm", ConnectionState::Paused, Some("night \u{0} shift"), 1), true),
        (stored("erp", ConnectionState::NeedsAuth, Some("401"), 2), false),
        (stored("crm", ConnectionState::Ok, None, 3), true),
        (stored("crm.eu", ConnectionState::Paused, None, 4), true),
    ];
    for (write, by_a_person) in &writes {
        let act = by_a_person.then(act);
        let stands = subject.connections().save(write, act.as_ref()).await.expect("it is written");
        assert_eq!(stands, *write);
    }
    for life in 0..3 {
        let mut loaded = subject.connections().load().await.expect("the store reads");
        loaded.sort_by(|one, two| one.name.cmp(&two.name));
        assert_eq!(loaded, [writes[2].0.clone(), writes[3].0.clone(), writes[1].0.clone()], "life {life}");
        setup.clock.advance(30 * DAY);
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}

/// What a worker finds out does not end a pause, nor does a worker that believes in a pause which is over bring it back; each is
/// told what stands.
pub async fn a_pause_begins_and_ends_by_a_person_alone<S: HasStore>() {
    use ConnectionState::{NeedsAuth, Ok, Paused};
    let setup = setup();
    let subject = S::create(&setup).await;
    let port = subject.connections();
    let stored = |state, seconds: u32| StoredConnection {
        name: connection("crm"),
        state,
        detail: (state != Ok).then(|| format!("since {seconds}")),
        since: now(&setup) + seconds * SECOND,
    };
    let (by_hand, by_itself) = (Some(act()), None);
    let steps = [
        (stored(NeedsAuth, 1), &by_itself, stored(NeedsAuth, 1)),
        (stored(Paused, 2), &by_hand, stored(Paused, 2)),
        (stored(Ok, 3), &by_itself, stored(Paused, 2)),
        (stored(NeedsAuth, 4), &by_itself, stored(Paused, 2)),
        (stored(Paused, 5), &by_itself, stored(Paused, 5)),
        (stored(Ok, 6), &by_hand, stored(Ok, 6)),
        (stored(Paused, 7), &by_itself, stored(Ok, 6)),
        (stored(NeedsAuth, 8), &by_itself, stored(NeedsAuth, 8)),
        (stored(Ok, 9), &by_itself, stored(Ok, 9)),
    ];
    for (written, by, stands) in steps {
        let answer = port.save(&written, by.as_ref()).await.expect("the store writes");
        assert_eq!(answer, stands, "{written:?} by {by:?}");
        assert_eq!(port.load().await.expect("the store reads"), [stands]);
    }
}

/// A pause that comes while many workers write what they have found out stands in the end, whoever is first.
pub async fn a_pause_stands_against_everything_that_is_found_out_at_once<S: HasStore>() {
    let setup = setup();
    let subject = S::create(&setup).await;
    let stored = |name: &str, state| StoredConnection {
        name: connection(name),
        state,
        detail: None,
        since: now(&setup),
    };
    for round in 0..10 {
        let name = format!("crm{round}");
        let found = [ConnectionState::Ok, ConnectionState::NeedsAuth, ConnectionState::Ok];
        let mut writes: Vec<_> = found.map(|state| (stored(&name, state), None)).into();
        writes.insert(round % 4, (stored(&name, ConnectionState::Paused), Some(act())));
        let port: Arc<dyn Connections> = subject.connections();
        let tasks: Vec<_> = (writes.into_iter())
            .map(|(written, act)| {
                let port = port.clone();
                tokio::spawn(async move { port.save(&written, act.as_ref()).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("the store writes");
        }
        let loaded = port.load().await.expect("the store reads");
        let stands = loaded.iter().find(|stored| stored.name == connection(&name)).expect("it is there");
        assert_eq!(stands.state, ConnectionState::Paused, "round {round}");
    }
}
