//! The values of expressions.

use std::borrow::Cow;
use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub enum V<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Cow<'a, [u8]>),
    List(Vec<V<'a>>),
}

pub fn truth(value: &V<'_>) -> Option<bool> {
    match value {
        V::Bool(b) => Some(*b),
        _ => None,
    }
}

pub fn whole(value: &V<'_>) -> Option<i128> {
    match value {
        V::Int(i) => Some(*i),
        _ => None,
    }
}

pub fn number(value: &V<'_>) -> Option<f64> {
    match value {
        V::Int(i) => Some(*i as f64),
        V::Float(f) => Some(*f),
        _ => None,
    }
}

pub fn text<'v>(value: &'v V<'_>) -> Option<&'v [u8]> {
    match value {
        V::Text(t) => Some(t),
        _ => None,
    }
}

/// None when the values cannot be compared; Some(None) when one of them is NaN.
pub fn order(left: &V<'_>, right: &V<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (V::Int(a), V::Int(b)) => Some(a.cmp(b)),
        (V::Text(a), V::Text(b)) => Some(a.cmp(b)),
        (V::Bool(a), V::Bool(b)) => Some(a.cmp(b)),
        _ => number(left)?.partial_cmp(&number(right)?),
    })
}

pub fn arithmetic<'a>(
    left: &V<'_>,
    right: &V<'_>,
    exact: fn(i128, i128) -> Option<i128>,
    near: fn(f64, f64) -> f64,
) -> Option<V<'a>> {
    match (left, right) {
        (V::Int(a), V::Int(b)) => exact(*a, *b).map(V::Int),
        _ => Some(V::Float(near(number(left)?, number(right)?))),
    }
}
