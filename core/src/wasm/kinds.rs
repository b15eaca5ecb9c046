//! The kinds of values as modules number them.

use crate::schema::plan;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar(plan::Kind),
    String,
    CString,
    Bytes,
}

const SCALARS: [plan::Kind; 11] = [
    plan::Kind::Bool,
    plan::Kind::I8,
    plan::Kind::I16,
    plan::Kind::I32,
    plan::Kind::I64,
    plan::Kind::U8,
    plan::Kind::U16,
    plan::Kind::U32,
    plan::Kind::U64,
    plan::Kind::F32,
    plan::Kind::F64,
];

impl Kind {
    pub fn of(number: u32) -> Option<Kind> {
        Some(match number {
            12 => Kind::String,
            13 => Kind::CString,
            14 => Kind::Bytes,
            n => Kind::Scalar(*SCALARS.get(usize::try_from(n).ok()?.checked_sub(1)?)?),
        })
    }

    /// As a field of the pipeline.
    pub fn of_field(self) -> plan::Kind {
        match self {
            Kind::Scalar(kind) => kind,
            Kind::String => plan::Kind::Str,
            Kind::CString => plan::Kind::Char,
            Kind::Bytes => plan::Kind::Bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_interface() {
        assert_eq!(Kind::of(0), None);
        assert_eq!(Kind::of(1), Some(Kind::Scalar(plan::Kind::Bool)));
        assert_eq!(Kind::of(8), Some(Kind::Scalar(plan::Kind::U32)));
        assert_eq!(Kind::of(11), Some(Kind::Scalar(plan::Kind::F64)));
        assert_eq!((Kind::of(12), Kind::of(14)), (Some(Kind::String), Some(Kind::Bytes)));
        assert_eq!((Kind::of(15), Kind::of(u32::MAX)), (None, None));
    }
}
