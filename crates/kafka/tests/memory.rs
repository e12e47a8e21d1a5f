//! What a member holds in memory while its receiver is slow. Alone in its process, whose memory it measures. Needs a real Kafka.

mod house;

use std::time::{Duration, Instant};

use bytes::Bytes;
use crossdock_core::{Broker, Event, Signal};
use house::{House, event, flow, publish, resident_mebibytes, signal, topic};

/// What waits in the topic, and how much of it may be in memory: the queues of a member hold 8 MiB of four partitions, what is on
/// its way to them at the most as much again, and the allocator keeps some of what it had.
const EVENTS: usize = 3_000;
const EVENT_BYTES: usize = 64 << 10;
const GROWN_MAX_MEBIBYTES: u64 = 64;
/// Long enough to fetch everything several times over.
const WATCHED: Duration = Duration::from_secs(5);

/// K5, on the other side: 190 MiB wait, and nobody takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_has_little_in_memory() {
    let house = House::shared();
    let kafka = house.open(&["orders"], 4).await;
    kafka.begin(&flow("slow"), &[topic("orders")]).await.expect("the group begins");
    let data = Bytes::from(vec![b'x'; EVENT_BYTES]);
    for page in 0..EVENTS / 50 {
        let large =
            |n: usize| Event { data: data.clone(), ..event(&format!("{page}-{n}"), &format!("k{n}")) };
        publish(&kafka, "orders", (0..50).map(large).collect()).await;
    }
    let before = resident_mebibytes();
    let mut subscription = kafka.subscribe(&flow("slow"), &[topic("orders")]).await.expect("it is joined");
    // Some of each partition is in hand, and its queue is full.
    let (mut out, mut open) = (Vec::new(), 4);
    while open > 0 {
        match signal(&mut subscription).await {
            Signal::Batch(batch) => {
                subscription.pause(&batch.partition);
                out.push(batch);
                open -= 1;
            }
            Signal::Assigned(_) => {}
            Signal::Revoked(revocation) => panic!("{:?} is revoked", revocation.partitions),
        }
    }
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        most = most.max(resident_mebibytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most < before + GROWN_MAX_MEBIBYTES, "{most} MiB, {before} before");
    // It goes on where it stood.
    out.iter().for_each(|batch| subscription.resume(&batch.partition));
    let mut came: usize = out.iter().map(|batch| batch.deliveries.len()).sum();
    while came < EVENTS {
        if let Signal::Batch(batch) = signal(&mut subscription).await {
            came += batch.deliveries.len();
        }
    }
    drop((out, subscription));
    kafka.close(Duration::from_secs(10)).await;
}
