//! The examples in normal use: as processes, over HTTP, and with a real nginx in front.
//!
//! `cargo test` builds all examples. `cargo test --test examples` alone does not, so run `cargo
//! build --examples` before.

mod approval;
mod clone;
mod embedded;
mod feed;
mod gateway;
mod nginx;
mod prices;
mod receiver;
mod reports;
mod support;
mod webhook;
mod worker;
