//! `cargo +nightly fuzz run --sanitizer none commit`
#![no_main]

#[path = "../commit.rs"]
mod commit;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    commit::check(data);
});
