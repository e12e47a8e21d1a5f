//! Comparing values: null < false < true < numbers < strings < arrays < objects, as jq orders them.

use std::cmp::Ordering;

use super::Val;
use crate::limits;

/// What it costs to look at a container, in bytes.
const VISIT_BYTES: u64 = 16;

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Num(left), Self::Num(right)) => left == right,
            (Self::Str(left), Self::Str(right)) => left == right,
            (Self::Arr(left), Self::Arr(right)) => {
                limits::work(left.items.len() as u64 + VISIT_BYTES);
                left.items == right.items
            }
            (Self::Obj(left), Self::Obj(right)) => {
                limits::work(left.fields.len() as u64 * VISIT_BYTES);
                left.fields == right.fields
            }
            _ => false,
        }
    }
}

impl Eq for Val {}

impl PartialOrd for Val {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Val {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Num(left), Self::Num(right)) => left.cmp(right),
            (Self::Str(left), Self::Str(right)) => left.cmp(right),
            (Self::Arr(left), Self::Arr(right)) => {
                limits::work(left.items.len() as u64 + VISIT_BYTES);
                left.items.cmp(&right.items)
            }
            (Self::Obj(left), Self::Obj(right)) => {
                limits::work(left.fields.len() as u64 * VISIT_BYTES);
                let (left, right) = (left.sorted(), right.sorted());
                let keys = left.iter().map(|(key, _)| key).cmp(right.iter().map(|(key, _)| key));
                keys.then_with(|| {
                    left.iter().map(|(_, value)| value).cmp(right.iter().map(|(_, value)| value))
                })
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Val {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Num(_) => 2,
            Self::Str(_) => 3,
            Self::Arr(_) => 4,
            Self::Obj(_) => 5,
        }
    }
}

impl super::Object {
    fn sorted(&self) -> Vec<(&bytes::Bytes, &Val)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(key, _)| *key);
        fields
    }
}
