//! What the value of a field depends on: fields that depend on little repeat from event to event.

use std::ops::Range;

use super::field::Fields;
use super::step::Step;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The same in every event.
    Nothing,
    /// These bytes of the sample, and the names of users and groups.
    Sample(Range<usize>),
    /// The container that was found for the event.
    Container,
    Anything,
}

/// What the values of all fields depend on; `rest` is the field of the bytes behind the sample.
pub fn of_fields(fields: &Fields, steps: &[Step], rest: Option<usize>) -> Vec<Need> {
    let own = |index: usize| {
        let field = &fields.list[index];
        match (field.slot, field.patched) {
            (false, false) => Need::Sample(field.offset..field.offset + field.size),
            (true, false) => Need::Nothing,
            (_, true) => Need::Anything,
        }
    };
    let mut needs: Vec<Need> = (0..fields.list.len()).map(own).collect();
    let containers = steps.iter().filter(|s| matches!(s, Step::Container { .. })).count();
    let mut write = |index: usize, need: Need| {
        // Of two steps that fill one field the order would count.
        needs[index] = if needs[index] == Need::Nothing { need } else { Need::Anything };
    };
    for step in steps {
        step.outputs(&mut |dst, src| match src {
            Source::Field(src) => match own(src) {
                Need::Sample(range) => write(dst, Need::Sample(range)),
                _ => write(dst, Need::Anything),
            },
            Source::Container if containers == 1 => write(dst, Need::Container),
            Source::Container | Source::Other => write(dst, Need::Anything),
        });
    }
    if let Some(rest) = rest {
        needs[rest] = Need::Anything;
    }
    needs
}

/// What a step makes a value of.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One field, alone.
    Field(usize),
    Container,
    Other,
}
