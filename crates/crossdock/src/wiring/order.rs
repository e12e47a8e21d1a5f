//! Topics of flows that keep order by a key of their own: they need one partition.

use crossdock_core::{Finding, Severity};

use crate::config::TopicPlan;

/// The findings, with what it means where a topic of such a flow has several partitions.
pub fn explained(topics: &[TopicPlan], findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().map(|finding| explain(topics, finding)).collect()
}

fn explain(topics: &[TopicPlan], finding: Finding) -> Finding {
    let single = topics.iter().find(|plan| finding.subject == format!("topic `{}`", plan.topic));
    let Some(flow) = single.and_then(|plan| plan.single_for.as_ref()) else { return finding };
    if finding.severity != Severity::Warning || !finding.detail.contains("partitions, and 1 ") {
        return finding;
    }
    let detail = format!(
        "{}: the flow `{flow}` has a `key` of its own, and keeps order only among events that also share their own key",
        finding.detail
    );
    let remedy = format!("let the flow `{flow}` read a topic with one partition, or leave its `key` out");
    Finding::warning(finding.subject, detail, remedy)
}
