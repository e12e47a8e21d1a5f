//! Promises about the states of connections.

use crossdock_core::{ConnectionState, StoredConnection};

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
        subject.connections().save(write, act.as_ref()).await.expect("it is written");
    }
    for life in 0..3 {
        let mut loaded = subject.connections().load().await.expect("the store reads");
        loaded.sort_by(|one, two| one.name.cmp(&two.name));
        assert_eq!(loaded, [writes[2].0.clone(), writes[3].0.clone(), writes[1].0.clone()], "life {life}");
        setup.clock.advance(30 * DAY);
        subject = if life == 0 { subject.reopen(&setup).await } else { subject.crash(&setup).await };
    }
}
