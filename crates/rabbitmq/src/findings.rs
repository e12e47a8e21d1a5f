//! What is found when RabbitMQ is compared with the configuration.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crossdock_core::{Finding, Group, Topic, chain};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::timeout;

use crate::{
    RabbitMq, Wanted,
    broker::Inner,
    dial::{Refusal, RefusalKind, dial},
    link::{Link, Trouble},
    management::{Definition, QueueState, Rules},
    options::{Login, Management},
    topology::{Desk, Made},
};

/// How long the broker has to say that it takes nothing.
const ALARM_MAX: Duration = Duration::from_secs(2);

/// What a topic is called in a finding.
pub(crate) fn topic(topic: &Topic) -> String {
    format!("topic `{topic}`")
}

/// What the queues of a group are called in a finding.
pub(crate) fn queues(group: &Group, topic: &Topic) -> String {
    format!("queues of flow `{group}` for topic `{topic}`")
}

impl RabbitMq {
    /// Compares the broker with what is wanted: whether it answers and lets us in, whether it takes events, which exchanges and
    /// queues are missing or differ, which rights are missing, which policies would lose events; each with what to do.
    /// Changes nothing; a queue that is tried goes with its connection. Takes up to half a minute where nobody answers.
    ///
    /// Policies are told by the management API alone, so they are looked at where its URL is given.
    pub async fn findings(&self, wanted: &Wanted) -> Vec<Finding> {
        let inner = &self.inner;
        inner.registry.note(wanted);
        let connection = match dial(&inner.options, "check").await {
            Ok(connection) => connection,
            Err(refusal) => return vec![inner.unreachable(&refusal)],
        };
        // A connection of its own: a broker that is short of memory stops reading from one that publishes.
        let link = Link::over(connection, "check", inner.options.clone(), inner.runtime.clone()).await;
        let (servers, vhost) = (inner.options.servers(), &inner.options.vhost);
        let mut findings = vec![Finding::ok("broker", format!("{servers} answers, virtual host `{vhost}`"))];
        match inner.look(&link, wanted).await {
            Ok(found) => findings.extend(found),
            Err(trouble) => findings.push(inner.unclear(&trouble)),
        }
        link.close().await;
        if let Some(management) = &inner.options.management {
            findings.extend(inner.look_at_policies(management, wanted).await);
        }
        findings
    }
}

/// Whether the broker takes events. It says so only to those who publish, after their first event, which it may have taken: so two are
/// sent, and they are for nobody.
async fn alarm(link: &Arc<Link>, exchange: Option<&str>) -> Result<Option<Finding>, Trouble> {
    let channel = link.channel().await?;
    let publishing = async {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let nobody = format!("check.{}", uuid::Uuid::new_v4());
        let publish = || {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let exchange = exchange.unwrap_or_default();
            channel.basic_publish(exchange.into(), nobody.as_str().into(), options, b"", properties)
        };
        publish().await?.await?;
        publish().await?.await
    };
    let mut blocked = link.blocked();
    let reason = tokio::select! {
        reason = blocked.wait_for(Option::is_some) => match reason {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The link is there as long as this is.
            Err(_) => return Ok(None),
        },
        answered = timeout(ALARM_MAX, publishing) => match answered {
            Ok(Ok(_)) => return Ok(None),
            // Whether it may publish is another question.
            Ok(Err(error)) => match Trouble::from(error) {
                trouble if trouble.code() == Some(403) => return Ok(None),
                trouble => return Err(trouble),
            },
            Err(_) => "it confirms nothing".to_owned(),
        },
    };
    Ok(Some(Finding::error(
        "broker",
        format!("it takes no events: {reason}"),
        "give the machine of the broker memory or disk, or raise vm_memory_high_watermark or lower disk_free_limit",
    )))
}

/// What the adapter needs is there since 3.8; this is the oldest version that it is tested with.
const OLDEST: (u32, u32) = (3, 10);

fn too_old((major, minor): (u32, u32)) -> Option<Finding> {
    let (oldest_major, oldest_minor) = OLDEST;
    ((major, minor) < OLDEST).then(|| {
        Finding::error(
            "broker",
            format!("it is RabbitMQ {major}.{minor}, older than {oldest_major}.{oldest_minor}, the oldest that is known to work"),
            format!("install RabbitMQ {oldest_major}.{oldest_minor} or later"),
        )
    })
}

impl Inner {
    fn unreachable(&self, refusal: &Refusal) -> Finding {
        let vhost = &self.options.vhost;
        let remedy = match refusal.kind {
            RefusalKind::Login => match &self.options.login {
                Login::Plain { username, .. } if username == "guest" => {
                    "write a user and a password: `guest` is let in from the broker's own machine alone".to_owned()
                }
                Login::Plain { username, .. } => format!("look at the password of `{username}`"),
                Login::External => {
                    "switch on rabbitmq_auth_mechanism_ssl and EXTERNAL at the broker, and make a user with the name in the \
                     certificate"
                        .to_owned()
                }
            },
            RefusalKind::VirtualHost => format!("make it (`rabbitmqctl add_vhost '{vhost}'`), or {}", self.permissions()),
            RefusalKind::Tls => {
                "name the authority that signed the broker's certificate in `tls.ca`, and the host as the certificate names it"
                    .to_owned()
            }
            RefusalKind::Unreachable => {
                "start the broker, or look at host and port; a port that speaks TLS needs `amqps://`".to_owned()
            }
        };
        Finding::error("broker", refusal.text.clone(), remedy)
    }

    /// How to give the rights that are needed.
    pub(crate) fn permissions(&self) -> String {
        let user = match &self.options.login {
            Login::Plain { username, .. } => username.as_str(),
            Login::External => "USER",
        };
        let pattern = format!("^{}", self.options.prefix.replace('.', "\\."));
        let vhost = &self.options.vhost;
        format!(
            "give it its rights: `rabbitmqctl set_permissions -p '{vhost}' '{user}' '{pattern}' '{pattern}' '{pattern}'`"
        )
    }

    fn unclear(&self, trouble: &Trouble) -> Finding {
        Finding::error("broker", chain(trouble), "look into the log of the broker")
    }

    /// Exchanges, queues, alarms, rights.
    async fn look(&self, link: &Arc<Link>, wanted: &Wanted) -> Result<Vec<Finding>, Trouble> {
        let mut desk = Desk::new(link.clone());
        let mut findings = Vec::new();
        findings.extend(link.version().await?.and_then(too_old));
        let mut seen = None;
        let refused = |of: &Topic, trouble: Trouble| {
            self.refused(topic(of), trouble.clone(), "looking").map_err(|_| trouble)
        };
        for shape in &wanted.topics {
            let exchange = self.names.exchange(&shape.topic);
            findings.push(match desk.has_exchange(&exchange).await {
                Ok(true) => {
                    seen.get_or_insert(exchange.clone());
                    // It is there, so this only compares.
                    match desk.make_exchange(&exchange).await {
                        Ok(()) => {
                            let shards = self.registry.partitions(&shape.topic, self.options.partitions);
                            Finding::ok(
                                topic(&shape.topic),
                                format!("exchange `{exchange}`, {shards} shards"),
                            )
                        }
                        Err(trouble) => refused(&shape.topic, trouble)?,
                    }
                }
                Ok(false) => Finding::missing(
                    topic(&shape.topic),
                    format!("the exchange `{exchange}` is missing; it is made"),
                ),
                Err(trouble) => refused(&shape.topic, trouble)?,
            });
        }
        for (group, topics) in &wanted.groups {
            for topic in topics {
                findings.extend(self.look_at_queues(link, &mut desk, group, topic).await?);
            }
        }
        // At last: a broker that is short of memory answers nothing any more to whoever has published.
        match alarm(link, seen.as_deref()).await? {
            Some(finding) => findings.push(finding),
            // What publishes would wait for the end of the alarm.
            None => findings.extend(self.rights(&mut desk, seen.as_deref()).await?),
        }
        Ok(findings)
    }

    /// Tries what the hub does, with a queue that goes with its connection.
    async fn rights(&self, desk: &mut Desk, exchange: Option<&str>) -> Result<Option<Finding>, Trouble> {
        let queue = self.names.scratch();
        let made = desk.make_temporary(&queue).await;
        let tried = match (made, exchange) {
            (Ok(()), Some(exchange)) => desk.try_out(&queue, exchange).await,
            (made, _) => made,
        };
        match tried {
            Ok(()) => Ok(None),
            Err(trouble) if trouble.code() == Some(403) => {
                Ok(Some(Finding::error("rights", chain(&trouble), self.permissions())))
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn look_at_queues(
        &self,
        link: &Link,
        desk: &mut Desk,
        group: &Group,
        topic: &Topic,
    ) -> Result<Vec<Finding>, Trouble> {
        let (found, about) = (self.find(desk, group, topic).await?, queues(group, topic));
        if let Some(finding) = found.differs(group, topic) {
            return Ok(vec![finding]);
        }
        let (mut there, mut unsaid, mut findings) = (0, 0, Vec::new());
        let partitions = self.partitions(std::slice::from_ref(topic));
        for (partition, ready) in partitions.iter().zip(&found.ready) {
            if ready.is_none() {
                continue;
            }
            there += 1;
            // It is there, so this only compares.
            match desk.make_queue(&self.names.queue(group, partition)).await {
                Ok(Made::Unlimited) => {}
                Ok(Made::Unsaid) => unsaid += 1,
                Err(trouble) => {
                    findings
                        .push(self.refused(about.clone(), trouble.clone(), "looking").map_err(|_| trouble)?);
                }
            }
        }
        let missing = found.ready.len() - there;
        if missing > 0 {
            findings.push(Finding::missing(
                about.clone(),
                format!("{missing} queues are missing; they are made"),
            ));
        }
        if unsaid > 0 && link.knows_unlimited().await? {
            findings.push(Finding::warning(
                about.clone(),
                "they are older than this version of RabbitMQ, which drops what was delivered 20 times",
                "set a policy for them: `rabbitmqctl set_policy crossdock-unlimited '^crossdock\\.' '{\"delivery-limit\":-1}' \
                 --apply-to quorum_queues`",
            ));
        }
        if findings.is_empty() {
            let waiting: u64 = found.ready.iter().flatten().sum();
            findings.push(Finding::ok(about, format!("{there} queues, {waiting} events wait")));
        }
        Ok(findings)
    }

    async fn look_at_policies(&self, management: &Management, wanted: &Wanted) -> Vec<Finding> {
        let unreadable = |why: String| {
            Finding::warning(
                "management API",
                why,
                "look at `management` and its login, which needs the tag `monitoring`; or remove it",
            )
        };
        let mut findings = Vec::new();
        match management.nodes().await {
            Ok(nodes) => findings.extend(
                nodes.iter().filter(|node| node.mem_alarm || node.disk_free_alarm).map(|node| {
                    let short = if node.mem_alarm { "memory" } else { "disk" };
                    let detail = format!("it is short of {short}, and takes no events");
                    Finding::error(
                        format!("node `{}`", node.name),
                        detail,
                        format!("give its machine {short}"),
                    )
                }),
            ),
            Err(why) => return vec![unreadable(why)],
        }
        let ours = wanted.groups.iter().flat_map(|(group, topics)| {
            self.partitions(topics).into_iter().map(|partition| self.names.queue(group, &partition))
        });
        let ours: HashSet<_> = ours.collect();
        match management.queues(&self.options.vhost).await {
            Ok(queues) => {
                let queues = queues.into_iter().filter(|queue| ours.contains(&queue.name));
                findings.extend(dangers(queues));
            }
            Err(why) => findings.push(unreadable(why)),
        }
        findings
    }
}

/// What policies would do to events, once for each policy and danger.
fn dangers(queues: impl Iterator<Item = QueueState>) -> Vec<Finding> {
    let mut found: BTreeMap<(String, &'static str, bool), Vec<String>> = BTreeMap::new();
    for queue in queues {
        let Definition::Some(rules) = &queue.effective_policy_definition else { continue };
        let policy = queue.policy.or(queue.operator_policy).unwrap_or_default();
        for (danger, loses) in rules.dangers() {
            found.entry((policy.clone(), danger, loses)).or_default().push(queue.name.clone());
        }
    }
    let findings = found.into_iter().map(|((policy, danger, loses), queues)| {
        let about = format!("policy `{policy}`");
        let detail = format!("{danger} (it applies to {} of our queues, for example `{}`)", queues.len(), queues[0]);
        let remedy = "change its pattern so that it does not apply to our queues, or give them a policy of higher priority";
        if loses { Finding::error(about, detail, remedy) } else { Finding::warning(about, detail, remedy) }
    });
    findings.collect()
}

impl Rules {
    /// What each rule would do, and whether that loses events.
    fn dangers(&self) -> Vec<(&'static str, bool)> {
        let mut dangers = Vec::new();
        if self.max_length.is_some() || self.max_length_bytes.is_some() {
            // A policy wins over the argument of the queue here.
            dangers.push(match self.overflow.as_deref() {
                Some("reject-publish") | None => (
                    "its limit of length refuses events when a queue is full, which turns their order",
                    false,
                ),
                Some(_) => ("its limit of length drops the oldest events", true),
            });
        }
        if self.delivery_limit.is_some_and(|limit| limit >= 0) {
            dangers.push(("its delivery limit drops events that were delivered often", true));
        }
        if self.message_ttl.is_some() {
            dangers.push(("its message-ttl drops events that wait long", true));
        }
        if self.expires.is_some() {
            dangers.push(("its expires deletes queues that nobody reads for a while", true));
        }
        dangers
    }
}
