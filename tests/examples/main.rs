//! The examples as their readers run them: as processes, over HTTP, and with a real nginx in front.
//!
//! They are built by `cargo test`, which builds all examples; after `cargo test --test examples` alone they may be
//! missing or old, so run `cargo build --examples` before.

mod clone;
mod feed;
mod gateway;
mod nginx;
mod prices;
mod receiver;
mod reports;
mod support;
mod webhook;
mod worker;
