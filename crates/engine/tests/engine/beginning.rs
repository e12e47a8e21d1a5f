//! Where the groups of flows begin that another worker delivers.

use std::{sync::Arc, time::Duration};

use crossdock_core::OutboxLog;
use crossdock_engine::{Roles, Stores};
use crossdock_testkit::{ManualClock, OutboxRows};

use crate::rig::{Options, Rig, event};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn nothing_is_relayed_before_the_groups_of_all_flows_have_begun() {
    let rig = Rig::new(Options::default()).await;
    assert!(rig.hub.stop(20 * SECOND).await);
    let rows = OutboxRows::new(Arc::new(ManualClock::new()));
    let stores =
        Stores { outbox: Arc::new(rows.clone()), outbox_log: Some(Arc::new(rows.clone())), ..rig.stores() };
    rig.broker.refuse(true);
    let hub = rig.worker_on(stores, Roles { deliver: false, ..Roles::default() }).await;
    let events = (0..3).map(|n| event(&format!("e{n}"), "k")).collect();
    hub.publish("orders", events).await.expect("they are taken in");
    let waiting = async || rows.status().await.expect("a status").waiting;
    rig.wait(600 * SECOND).await;
    assert_eq!(waiting().await, 3);
    rig.broker.refuse(false);
    rig.until("everything is relayed", async || waiting().await == 0).await;
}
