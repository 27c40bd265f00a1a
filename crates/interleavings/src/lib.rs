//! Checks of lock-free protocols in every order of their steps: `make interleavings`.
//!
//! The files under test are included from the core. They depend on nothing but atomics, which with
//! `--cfg loom` are those of loom. Without it this package is empty.

#![cfg(all(loom, test))]

#[path = "../../core/src/hub/wanted.rs"]
mod wanted;

mod doorbell;
