//! Which dead letters have one cause.

use sha2::{Digest, Sha256};

use crate::{Class, ConnectionName, Fault, FlowName, GroupId};

/// What a dead letter is grouped by: everything that names the cause and nothing that names the event.
#[derive(Debug, Clone)]
pub struct Fingerprint<'a> {
    /// The flow.
    pub flow: &'a FlowName,
    /// Where in the flow it failed: `key`, `filter`, `map`, `call`.
    pub step: &'a str,
    /// The connection of the flow.
    pub connection: &'a ConnectionName,
    /// The action of the flow.
    pub action: &'a str,
    /// The class of the last fault.
    pub class: Class,
    /// The status of the last fault.
    pub status: Option<u16>,
    /// The vendor's code of the last fault.
    pub code: Option<&'a str>,
}

/// A new way of hashing gets a new number, so that old groups keep their ids.
const VERSION: &str = "1";

impl<'a> Fingerprint<'a> {
    /// The fingerprint of a fault in a step of a flow.
    pub fn of(
        flow: &'a FlowName,
        step: &'a str,
        connection: &'a ConnectionName,
        action: &'a str,
        fault: &'a Fault,
    ) -> Self {
        let (class, status, code) = (fault.class, fault.status, fault.code.as_deref());
        Self { flow, step, connection, action, class, status, code }
    }

    /// The id of the group: `g` and twelve hexadecimal digits.
    pub fn group(&self) -> GroupId {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        let parts = [
            VERSION,
            self.flow.as_str(),
            self.step,
            self.connection.as_str(),
            self.action,
            self.class.as_str(),
            &status,
            self.code.unwrap_or_default(),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let digits: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        GroupId::from(format!("g{digits}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(flow: &str, step: &str, action: &str, fault: &Fault) -> GroupId {
        let flow = FlowName::new(flow).expect("a name");
        let connection = ConnectionName::new("crm").expect("a name");
        Fingerprint::of(&flow, step, &connection, action, fault).group()
    }

    #[test]
    fn a_group_id_stays_what_it_was() {
        let fault = Fault { status: Some(422), ..Fault::new(Class::Rejected, "no") };
        assert_eq!(group("orders", "call", "post", &fault).as_str(), "g2ef26edc191e");
    }

    proptest! {
        #[test]
        fn the_message_never_matters(one in ".*", other in ".*") {
            let fault = |message: &str| Fault::new(Class::Bug, message).code("E1");
            prop_assert_eq!(group("f", "map", "post", &fault(&one)), group("f", "map", "post", &fault(&other)));
        }

        #[test]
        fn parts_do_not_run_into_each_other(a in "[a-c]{0,3}", b in "[a-c]{0,3}", c in "[a-c]{0,3}", d in "[a-c]{0,3}") {
            let fault = Fault::new(Class::Bug, "");
            let same = group("f", &a, &b, &fault) == group("f", &c, &d, &fault);
            prop_assert_eq!(same, (a, b) == (c, d));
        }

        #[test]
        fn status_and_code_tell_groups_apart(one in prop::option::of(100u16..600), other in prop::option::of(100u16..600)) {
            let fault = |status| Fault { status, ..Fault::new(Class::Rejected, "") };
            prop_assert_eq!(group("f", "call", "post", &fault(one)) == group("f", "call", "post", &fault(other)), one == other);
        }
    }
}
