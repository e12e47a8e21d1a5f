//! `+ - * / %` and negation.

use std::collections::BTreeSet;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jaq_core::ValR;
use jaq_core::ops::Math;
use jaq_json::Num;

use super::{Array, Error, ITEM_BYTES, Object, Val, stopped};
use crate::limits;

/// Longest product of integers, in bits: some 5,000 digits.
const INTEGER_BITS_MAX: u64 = 1 << 14;

impl Add for Val {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => Ok(value),
            (Self::Num(left), Self::Num(right)) => Ok(Self::Num(left + right)),
            (Self::Str(left), Self::Str(right)) => concatenate(left, &right),
            (Self::Arr(left), Self::Arr(right)) => append(left, &right),
            (Self::Obj(left), Self::Obj(right)) => extend(left, &right),
            (left, right) => Err(Error::math(left, Math::Add, right)),
        }
    }
}

fn concatenate(left: Bytes, right: &Bytes) -> ValR<Val> {
    // A string that nobody else holds grows in place, so that building one piece by piece stays linear.
    let copied = if left.is_unique() { 0 } else { left.len() };
    if !limits::work((copied + right.len()) as u64) {
        return Err(stopped());
    }
    let mut text = BytesMut::from(left);
    text.extend_from_slice(right);
    Val::Str(text.freeze()).checked()
}

fn append(mut left: Arc<Array>, right: &Array) -> ValR<Val> {
    let copied = if Arc::get_mut(&mut left).is_some() { 0 } else { left.items.len() };
    if !limits::work((copied + right.items.len()) as u64 * ITEM_BYTES) {
        return Err(stopped());
    }
    let array = Arc::make_mut(&mut left);
    array.shape.bytes += right.shape.bytes;
    array.shape.depth = array.shape.depth.max(right.shape.depth);
    array.items.extend(right.items.iter().cloned());
    Val::Arr(left).checked()
}

fn extend(mut left: Arc<Object>, right: &Object) -> ValR<Val> {
    let copied = if Arc::get_mut(&mut left).is_some() { 0 } else { left.fields.len() };
    if !limits::work((copied + right.fields.len()) as u64 * ITEM_BYTES) {
        return Err(stopped());
    }
    let object = Arc::make_mut(&mut left);
    right.fields.iter().for_each(|(key, value)| object.insert(key.clone(), value.clone()));
    Val::Obj(left).checked()
}

impl Sub for Val {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Num(left), Self::Num(right)) => Ok(Self::Num(left - right)),
            (Self::Arr(left), Self::Arr(right)) => {
                let right = right.items.iter().collect::<BTreeSet<_>>();
                Ok(left.items.iter().filter(|item| !right.contains(item)).cloned().collect())
            }
            (left, right) => Err(Error::math(left, Math::Sub, right)),
        }
    }
}

impl Mul for Val {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Num(left), Self::Num(right)) => multiply(left, right),
            (Self::Str(text), Self::Num(count @ (Num::Int(_) | Num::BigInt(_))))
            | (Self::Num(count @ (Num::Int(_) | Num::BigInt(_))), Self::Str(text)) => repeat(&text, &count),
            (Self::Obj(left), Self::Obj(right)) => merge(left, &right).and_then(Self::checked),
            (left, right) => Err(Error::math(left, Math::Mul, right)),
        }
    }
}

fn multiply(left: Num, right: Num) -> ValR<Val> {
    let bits = |number: &Num| if let Num::BigInt(integer) = number { integer.bits() } else { 64 };
    if bits(&left) + bits(&right) > INTEGER_BITS_MAX && (bits(&left) > 64 || bits(&right) > 64) {
        return Err(Error::str("the product has too many digits"));
    }
    Ok(Val::Num(left * right))
}

/// A string as often as an integer says; not at all is null, as in jq.
fn repeat(text: &Bytes, count: &Num) -> ValR<Val> {
    if *count <= Num::Int(0) {
        return Ok(Val::Null);
    }
    let count = count.as_isize().map_or(usize::MAX, isize::unsigned_abs);
    let bytes = text.len().saturating_mul(count);
    if !limits::work(bytes as u64) {
        return Err(stopped());
    }
    Val::Str(text.repeat(count).into()).checked()
}

/// Merge objects, and the objects within them.
fn merge(mut left: Arc<Object>, right: &Object) -> ValR<Val> {
    if !limits::work((left.fields.len() + right.fields.len()) as u64 * ITEM_BYTES) {
        return Err(stopped());
    }
    let object = Arc::make_mut(&mut left);
    for (key, value) in &right.fields {
        let merged = match (object.fields.get(key), value) {
            (Some(Val::Obj(left)), Val::Obj(right)) => merge(left.clone(), right)?,
            (_, value) => value.clone(),
        };
        object.insert(key.clone(), merged);
    }
    Ok(Val::Obj(left))
}

impl Div for Val {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> ValR<Self> {
        match (self, other) {
            (Self::Num(left), Self::Num(right)) => Ok(Self::Num(left / right)),
            (Self::Str(text), Self::Str(separator)) => Ok(split(&text, &separator)),
            (left, right) => Err(Error::math(left, Math::Div, right)),
        }
    }
}

fn split(text: &Bytes, separator: &Bytes) -> Val {
    let part = |part: &str| Val::Str(text.slice_ref(part.as_bytes()));
    match (std::str::from_utf8(text), std::str::from_utf8(separator)) {
        (Ok(""), _) => Val::array(Vec::new()),
        (Ok(whole), Ok("")) => whole.split_inclusive(|_| true).map(part).collect(),
        (Ok(whole), Ok(separator)) => whole.split(separator).map(part).collect(),
        // Only a program that decodes binary data gets here.
        _ => [Val::Str(text.clone())].into_iter().collect(),
    }
}

impl Rem for Val {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> ValR<Self> {
        let integer = |number: &Num| matches!(number, Num::Int(_) | Num::BigInt(_));
        match (self, other) {
            (Self::Num(left), Self::Num(right))
                if !(integer(&left) && integer(&right) && right == Num::Int(0)) =>
            {
                Ok(Self::Num(left % right))
            }
            (left, right) => Err(Error::math(left, Math::Rem, right)),
        }
    }
}

impl Neg for Val {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        match self {
            Self::Num(number) => Ok(Self::Num(-number)),
            other => Err(Error::typ(other, "number")),
        }
    }
}
