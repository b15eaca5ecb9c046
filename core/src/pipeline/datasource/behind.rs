//! Callbacks of the wasm module whose priority is behind that of filters, of sorting or of limits:
//! they see only what these let pass.

use crate::errors::{Error, Result};
use crate::pipeline::step::{self, Step};
use crate::schema::field::Fields;
use crate::schema::lookups::Lookups;
use crate::schema::plan;
use crate::wasm::Guest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    Filters = 0,
    Sort = 1,
    Limit = 2,
}

impl Behind {
    pub const ALL: [Behind; 3] = [Behind::Filters, Behind::Sort, Behind::Limit];

    /// None: among the steps.
    pub fn of(name: &str) -> Result<Option<Behind>> {
        match name {
            "steps" => Ok(None),
            "filters" => Ok(Some(Behind::Filters)),
            "sort" => Ok(Some(Behind::Sort)),
            "limit" => Ok(Some(Behind::Limit)),
            other => Err(Error::plan(format!("a callback behind {other:?}"))),
        }
    }
}

pub fn compile(
    plan: &plan::DataSource,
    fields: &mut Fields,
    guest: Option<&Guest>,
) -> Result<[Vec<Step>; 3]> {
    let mut of = |steps: &[plan::Step]| {
        if steps.iter().any(|s| !matches!(s, plan::Step::Wasm { .. })) {
            let what = format!("data source {}: only callbacks stand behind filters", plan.name);
            return Err(Error::plan(what));
        }
        step::compile(steps, fields, &mut Lookups::default(), &mut Vec::new(), guest)
    };
    Ok([of(&plan.behind.filters)?, of(&plan.behind.sort)?, of(&plan.behind.limit)?])
}
