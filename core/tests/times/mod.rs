//! Times for properties, of the library's own modules too.

use std::time::Duration;

use proptest::prelude::*;

/// Times of every size, those at the ends among them.
pub(crate) fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0..1_000u64).prop_map(Duration::from_nanos),
        (0..100_000u64).prop_map(Duration::from_millis),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, ns)| Duration::new(s, ns)),
    ]
}
