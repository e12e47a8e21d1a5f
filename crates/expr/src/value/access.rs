//! Looking into values, and changing them in place: the operations that jaq asks of a value type.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::val::Range;
use jaq_core::{Exn, ValR, ValT, ValX};
use jaq_json::Num;

use super::{Array, Error, ITEM_BYTES, Object, Val, number, stopped};
use crate::limits;

impl ValT for Val {
    fn from_num(text: &str) -> ValR<Self> {
        Ok(Self::Num(number(text)))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(fields: I) -> ValR<Self> {
        let field = |(key, value): (Self, Self)| match key {
            Self::Str(_) if !limits::work(ITEM_BYTES) => Err(stopped()),
            Self::Str(key) => Ok((key, value)),
            other => Err(Error::typ(other, "object key")),
        };
        fields.into_iter().map(field).collect::<Result<_, _>>().map(Self::object)
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Self::Arr(_) | Self::Obj(_) if !self.visit() => box_once(Err(stopped())),
            Self::Arr(array) => {
                let pair = |(position, item)| Ok((Self::from(position as isize), item));
                Box::new(owned_items(array).into_iter().enumerate().map(pair))
            }
            Self::Obj(object) => Box::new(
                owned_object(object).fields.into_iter().map(|(key, value)| Ok((Self::Str(key), value))),
            ),
            other => box_once(Err(not_iterable(other))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self {
            Self::Arr(_) | Self::Obj(_) if !self.visit() => box_once(Err(stopped())),
            Self::Arr(array) => Box::new(owned_items(array).into_iter().map(Ok)),
            Self::Obj(object) => Box::new(owned_object(object).fields.into_values().map(Ok)),
            other => box_once(Err(not_iterable(other))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        self.lookup(index).map(Option::unwrap_or_default)
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        match self {
            Self::Str(text) => {
                let (skip, take) = characters(&bounds(range)?, &text);
                Ok(Self::Str(text.slice(skip..skip + take)))
            }
            Self::Arr(array) => {
                let (skip, take) = positions(&bounds(range)?, array.items.len());
                Ok(array.items[skip..skip + take].iter().cloned().collect())
            }
            other => Err(Error::typ(other, "rangeable (array or string)")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match self {
            Self::Arr(_) | Self::Obj(_) if !self.visit() => Err(Exn::from(stopped())),
            Self::Arr(array) => owned_items(array).into_iter().flat_map(f).collect(),
            Self::Obj(object) => {
                let fields = owned_object(object).fields.into_iter();
                let fields = fields.filter_map(|(key, value)| f(value).next().map(|value| Ok((key, value?))));
                Ok(Self::object(fields.collect::<Result<_, Exn<'a, Self>>>()?))
            }
            other => opt.fail(other, |value| Exn::from(not_iterable(value))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match (self, index) {
            (value @ (Self::Str(_) | Self::Arr(_)), Self::Obj(range)) => {
                let (start, end) = (range.fields.get(&b"start"[..]), range.fields.get(&b"end"[..]));
                value.map_range(start..end, opt, f)
            }
            (Self::Obj(object), Self::Str(key)) => map_field(object, key, f),
            (value @ Self::Obj(_), other) => {
                opt.fail(value, |_| Exn::from(Error::typ(other.clone(), "object key")))
            }
            (Self::Arr(array), index) => map_item(array, index, opt, f),
            (other, _) => opt.fail(other, |value| Exn::from(not_iterable(value))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let bounds = match (&self, bounds(range)) {
            (Self::Arr(_) | Self::Str(_), Ok(bounds)) => bounds,
            (Self::Arr(_) | Self::Str(_), Err(error)) => return opt.fail(self, |_| Exn::from(error)),
            _ => return opt.fail(self, |value| Exn::from(Error::typ(value, "array"))),
        };
        match self {
            Self::Arr(array) => map_items(&array, &bounds, f),
            Self::Str(text) => map_characters(&text, &bounds, f),
            other => Ok(other),
        }
    }

    fn as_bool(&self) -> bool {
        self.is_true()
    }

    fn into_string(self) -> Self {
        match self {
            Self::Str(_) => self,
            other => Self::string(other.to_json()),
        }
    }
}

impl Val {
    /// Account for going through all children. `false`: it may not be done.
    fn visit(&self) -> bool {
        let count = match self {
            Self::Arr(array) => array.items.len(),
            Self::Obj(object) => object.fields.len(),
            _ => 0,
        };
        limits::items(count as u64) && limits::work(count as u64 * ITEM_BYTES)
    }

    /// `.[index]`, or nothing where jq gives null.
    pub(crate) fn lookup(self, index: &Self) -> Result<Option<Self>, Error> {
        if !limits::work(16) {
            return Err(stopped());
        }
        Ok(match (self, index) {
            (Self::Null, _) => None,
            (Self::Obj(object), Self::Str(key)) => object.fields.get(key).cloned(),
            (Self::Obj(_), _) => None,
            (Self::Arr(array), Self::Num(Num::Int(_) | Num::BigInt(_))) => {
                let position = offset(index)?.within(array.items.len());
                position.and_then(|position| array.items.get(position).cloned())
            }
            (value @ Self::Arr(_), Self::Arr(_)) => {
                Some(value.indices(index)?.into_iter().map(Self::from).collect())
            }
            (value @ (Self::Str(_) | Self::Arr(_)), Self::Obj(range)) => {
                let (start, end) = (range.fields.get(&b"start"[..]), range.fields.get(&b"end"[..]));
                Some(value.range(start..end)?)
            }
            (value, _) => return Err(Error::index(value, index.clone())),
        })
    }
}

/// The items, without copying where nobody else holds them.
fn owned_items(array: Arc<Array>) -> Vec<Val> {
    Arc::unwrap_or_clone(array).items
}

fn owned_object(object: Arc<Object>) -> Object {
    Arc::unwrap_or_clone(object)
}

fn not_iterable(value: Val) -> Error {
    Error::typ(value, "iterable (array or object)")
}

fn map_field<'a, I: Iterator<Item = ValX<'a, Val>>>(
    mut object: Arc<Object>,
    key: &Bytes,
    f: impl Fn(Val) -> I,
) -> ValX<'a, Val> {
    let copied = if Arc::get_mut(&mut object).is_some() { 1 } else { object.fields.len() as u64 };
    limits::work(copied * ITEM_BYTES);
    let before = Arc::make_mut(&mut object).fields.get_mut(key).map(std::mem::take);
    let shape = before.as_ref().map(Val::shape);
    let after = f(before.unwrap_or_default()).next().transpose()?;
    let inner = Arc::make_mut(&mut object);
    match (shape, after) {
        (Some(before), Some(after)) => {
            inner.shape.replace(before, after.shape());
            inner.fields.insert(key.clone(), after);
        }
        (None, Some(after)) => inner.insert(key.clone(), after),
        // The order of the other fields may change; jaq does the same, for speed.
        (Some(before), None) => {
            inner.fields.swap_remove(key);
            inner.shape.remove(before);
        }
        (None, None) => {}
    }
    Val::Obj(object).checked()
}

fn map_item<'a, I: Iterator<Item = ValX<'a, Val>>>(
    mut array: Arc<Array>,
    index: &Val,
    opt: Opt,
    f: impl Fn(Val) -> I,
) -> ValX<'a, Val> {
    let length = array.items.len();
    let position = offset(index).and_then(|offset| {
        let position = offset.within(length).filter(|position| *position < length);
        position.ok_or_else(|| Error::str(format_args!("index {index} out of bounds")))
    });
    let position = match position {
        Ok(position) => position,
        Err(error) => return opt.fail(Val::Arr(array), |_| Exn::from(error)),
    };
    let copied = if Arc::get_mut(&mut array).is_some() { 1 } else { length as u64 };
    limits::work(copied * ITEM_BYTES);
    let inner = Arc::make_mut(&mut array);
    let before = std::mem::take(&mut inner.items[position]);
    let shape = before.shape();
    if let Some(after) = f(before).next().transpose()? {
        inner.shape.replace(shape, after.shape());
        inner.items[position] = after;
    } else {
        inner.items.remove(position);
        inner.shape.remove(shape);
    }
    Val::Arr(array).checked()
}

fn map_items<'a, I: Iterator<Item = ValX<'a, Val>>>(
    array: &Arc<Array>,
    bounds: &Range<Offset>,
    f: impl Fn(Val) -> I,
) -> ValX<'a, Val> {
    let (skip, take) = positions(bounds, array.items.len());
    let (head, rest) = array.items.split_at(skip);
    let (part, tail) = rest.split_at(take);
    let part = f(part.iter().cloned().collect()).next().transpose()?;
    let part = part.map_or_else(|| Ok(Arc::default()), Val::into_array)?;
    Ok(head.iter().chain(&part.items).chain(tail).cloned().collect())
}

fn map_characters<'a, I: Iterator<Item = ValX<'a, Val>>>(
    text: &Bytes,
    bounds: &Range<Offset>,
    f: impl Fn(Val) -> I,
) -> ValX<'a, Val> {
    let (skip, take) = characters(bounds, text);
    let part = f(Val::Str(text.slice(skip..skip + take))).next().transpose()?;
    let mut out = BytesMut::from(&text[..skip]);
    if let Some(part) = part {
        out.extend_from_slice(part.as_text()?);
    }
    out.extend_from_slice(&text[skip + take..]);
    Ok(Val::string(out.freeze()))
}

/// A position from the start, or back from the end.
#[derive(Clone, Copy)]
enum Offset {
    Start(usize),
    End(usize),
}

impl Offset {
    fn within(self, length: usize) -> Option<usize> {
        match self {
            Self::Start(ahead) => Some(ahead),
            Self::End(back) => length.checked_sub(back),
        }
    }
}

/// A value as a position. Integers past the machine's are past the end of any array.
fn offset(value: &Val) -> Result<Offset, Error> {
    match value {
        Val::Num(Num::Int(position)) if *position < 0 => Ok(Offset::End(position.unsigned_abs())),
        Val::Num(Num::Int(position)) => Ok(Offset::Start(position.unsigned_abs())),
        Val::Num(number @ Num::BigInt(_)) if *number < Num::Int(0) => Ok(Offset::End(usize::MAX)),
        Val::Num(Num::BigInt(_)) => Ok(Offset::Start(usize::MAX)),
        other => Err(Error::typ(other.clone(), "integer")),
    }
}

fn bounds(range: Range<&Val>) -> Result<Range<Offset>, Error> {
    let bound =
        |value: Option<&Val>| value.filter(|value| !matches!(value, Val::Null)).map(offset).transpose();
    Ok(bound(range.start)?..bound(range.end)?)
}

/// How many items to skip and to take.
fn positions(bounds: &Range<Offset>, length: usize) -> (usize, usize) {
    let clip = |offset: Offset| offset.within(length).unwrap_or(0).min(length);
    let skip = bounds.start.map_or(0, clip);
    (skip, bounds.end.map_or(length, clip).saturating_sub(skip))
}

/// How many bytes to skip and to take, for bounds in characters.
fn characters(bounds: &Range<Offset>, text: &[u8]) -> (usize, usize) {
    limits::work(text.len() as u64);
    let starts =
        || text.iter().enumerate().filter(|(_, byte)| (**byte & 0xC0) != 0x80).map(|(start, _)| start);
    let byte = |offset: Offset| match offset {
        Offset::Start(ahead) => starts().nth(ahead).unwrap_or(text.len()),
        Offset::End(0) => text.len(),
        Offset::End(back) => starts().rev().nth(back - 1).unwrap_or(0),
    };
    let skip = bounds.start.map_or(0, byte);
    (skip, bounds.end.map_or(text.len(), byte).saturating_sub(skip))
}
