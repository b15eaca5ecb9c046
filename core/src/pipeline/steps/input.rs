//! What a step makes a value of.

#[derive(Clone, Copy, Debug)]
pub enum StepInput {
    /// One field and nothing else.
    Field(usize),
    Container,
    Other,
}
