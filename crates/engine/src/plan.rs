//! What the engine runs: flows and connections, checked and compiled.

use std::sync::Arc;

use crossdock_core::{CircuitPolicy, Connection, ConnectionName, FieldKind, FlowName, RetryPolicy, Topic};
use crossdock_expr::{Program, Template, Tree};

/// Everything that a hub runs. Made by the configuration, never changed afterwards.
pub struct Plan {
    /// The flows, in the order of the configuration.
    pub flows: Vec<Arc<FlowPlan>>,
    /// The connections, in the order of the configuration.
    pub connections: Vec<Arc<ConnectionPlan>>,
    /// Topics that take events over the API: those that flows read and those that are declared.
    pub topics: Vec<Topic>,
}

/// A flow.
pub struct FlowPlan {
    /// Its name.
    pub name: FlowName,
    /// The topics that it reads.
    pub topics: Vec<Topic>,
    /// What its order is kept by, instead of the event's own key.
    pub key: Option<Program>,
    /// Which events it takes.
    pub filter: Option<Program>,
    /// What it makes of the data; the data untouched if there is none.
    pub map: Option<Tree>,
    /// The connection that it calls.
    pub connection: ConnectionName,
    /// The action of the connection.
    pub action: String,
    /// The fields of the action.
    pub fields: Vec<FieldPlan>,
    /// Whether deliveries of one key wait for each other.
    pub order: Order,
    /// When failed deliveries are tried again.
    pub retry: RetryPolicy,
}

impl FlowPlan {
    /// Whether it keeps order by a key of its own. Events that share it may have different keys of their own, by which a
    /// broker spreads them over partitions; their order is then that of the topic only if it has one partition.
    pub fn orders_across_keys(&self) -> bool {
        self.key.is_some() && self.order == Order::Key
    }
}

/// A field of an action, with its expressions.
pub struct FieldPlan {
    /// The field's name in the connector's specification.
    pub name: &'static str,
    /// What it takes; [`FieldKind::Path`] percent-encodes what is inserted.
    pub kind: FieldKind,
    /// Its value.
    pub value: FieldValue,
}

/// The value of a field of an action.
pub enum FieldValue {
    /// Text, with expressions.
    Text(Template),
    /// Names and text, with expressions in the text.
    TextMap(Vec<(String, Template)>),
}

/// What order a flow keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Deliveries of one key happen one after the other, in the order of the topic.
    Key,
    /// Deliveries happen in any order.
    None,
}

/// A connection.
pub struct ConnectionPlan {
    /// Its name.
    pub name: ConnectionName,
    /// The name of its connector.
    pub connector: String,
    /// The connection itself.
    pub connection: Arc<dyn Connection>,
    /// The most calls at a time.
    pub concurrency: usize,
    /// When the circuit opens; none switches the breaker off.
    pub circuit: Option<CircuitPolicy>,
}
