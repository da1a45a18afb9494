#![no_main]

// A module of the program `handover`, which is no library.
#[path = "../../../adapters/supervisor/src/run/said.rs"]
mod said;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| said::fuzz(bytes));
