//! Shared by the targets: what a sample costs, how samples grow, and events for the data plane.

pub mod cost;
mod events;
pub mod grow;
mod worst;

pub use events::{is_harmless, Input, Mode};
pub use libfuzzer_sys;

/// A target: its cost is measured and limited ([`cost`]), and its samples also grow ([`grow`]).
#[macro_export]
macro_rules! target {
    (|$data:ident| $body:block) => {
        fn run($data: &[u8]) $body

        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $crate::cost::measure(data, run);
        });

        $crate::libfuzzer_sys::fuzz_mutator!(
            |data: &mut [u8], size: usize, max_size: usize, seed: u32| {
                $crate::grow::mutate(data, size, max_size, seed)
            }
        );
    };
}
