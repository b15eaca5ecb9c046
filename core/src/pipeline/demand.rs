//! Which steps have to run for an event. What nothing reads is not made, and what is only a part of
//! texts that are remembered is made when such a text is not known.

use super::step::Step;
use super::steps::input::StepInput;
use crate::schema::field::Fields;
use crate::schema::plan::Kind;

/// When the value of a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Never,
    /// For a text that is remembered, when it is not known.
    Sometimes,
    Always,
}

/// By field.
pub struct Demand(Vec<Need>);

impl Demand {
    pub fn none(fields: &Fields) -> Demand {
        Demand(vec![Need::Never; fields.list.len()])
    }

    /// Of what may read any field.
    pub fn all(fields: &Fields) -> Demand {
        Demand(vec![Need::Always; fields.list.len()])
    }

    pub fn add(&mut self, field: usize, need: Need) {
        self.0[field] = self.0[field].max(need);
    }

    /// The steps for each event, and those for events of which a text is not known. Texts are read
    /// by no other step, so that they can be made later.
    pub fn divide(&self, steps: Vec<Step>, fields: &Fields) -> (Vec<Step>, Vec<Step>) {
        let need = |field: usize| match fields.list[field].kind {
            Kind::Str | Kind::Char => self.0[field],
            _ => Need::Always,
        };
        let (mut always, mut sometimes) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Container { mntns, netns, fields } => {
                    let read = fields.into_iter().filter(|f| need(f.field) > Need::Never);
                    let (now, later): (Vec<_>, Vec<_>) =
                        read.partition(|f| need(f.field) == Need::Always);
                    always.push(Step::Container { mntns, netns, fields: now });
                    if !later.is_empty() {
                        sometimes.push(Step::ContainerFields(later));
                    }
                }
                step => match only_output(&step).map_or(Need::Always, need) {
                    Need::Always => always.push(step),
                    Need::Sometimes => sometimes.push(step),
                    Need::Never => {}
                },
            }
        }
        (always, sometimes)
    }
}

/// The field that the step fills; None when it does more than make a text of one other field.
fn only_output(step: &Step) -> Option<usize> {
    let (mut count, mut only) = (0, None);
    step.outputs(&mut |field, input| {
        count += 1;
        only = matches!(input, StepInput::Field(_)).then_some(field);
    });
    only.filter(|_| count == 1)
}
