//! What the values of all fields depend on: fields that depend on little are the same in many
//! events, and their rendered text is reused.

use super::step::Step;
use super::steps::input::StepInput;
use crate::schema::dependency::Dependency;
use crate::schema::field::Fields;

/// What the values of all fields depend on; `rest` is the field of the bytes behind the sample.
pub fn of_fields(fields: &Fields, steps: &[Step], rest: Option<usize>) -> Vec<Dependency> {
    let own = |index: usize| {
        let field = &fields.list[index];
        match (field.slot, field.patched) {
            (false, false) => Dependency::Sample(field.offset..field.offset + field.size),
            (true, false) => Dependency::Nothing,
            (_, true) => Dependency::Anything,
        }
    };
    let mut dependencies: Vec<Dependency> = (0..fields.list.len()).map(own).collect();
    let containers = steps.iter().filter(|s| matches!(s, Step::Container { .. })).count();
    let mut write = |index: usize, dependency: Dependency| {
        // Two steps fill the field: its value depends on their order, too.
        dependencies[index] = if dependencies[index] == Dependency::Nothing {
            dependency
        } else {
            Dependency::Anything
        };
    };
    for step in steps {
        step.outputs(&mut |dst, src| match src {
            StepInput::Field(src) => match own(src) {
                Dependency::Sample(range) => write(dst, Dependency::Sample(range)),
                _ => write(dst, Dependency::Anything),
            },
            StepInput::Container if containers == 1 => write(dst, Dependency::Container),
            StepInput::Container | StepInput::Other => write(dst, Dependency::Anything),
        });
    }
    if let Some(rest) = rest {
        dependencies[rest] = Dependency::Anything;
    }
    dependencies
}
