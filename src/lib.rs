//! tidegate, a push gateway: a backend posts an update once, and every browser that listens gets it.
//!
//! The modules in the order in which an event walks through them: [`settings`] say what the operator wants; [`event`] is
//! what travels; [`auth`] says who may; [`publish`] takes it in; [`history`] gives it its place and keeps it; [`hub`] knows who should get it;
//! [`delivery`] brings it to each of them; [`transport`] makes bytes of it; [`subscribe`] is the way out. [`jobs`] are long
//! work whose changes are events. [`pages`] and [`ops`] are for people and machines that look after it, [`server`] listens,
//! and [`gateway`] holds it together: start there.

mod accept;
pub mod auth;
mod body;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod delivery;
pub mod event;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
pub mod history;
pub mod hub;
pub mod jobs;
pub mod ops;
pub mod pages;
pub mod problem;
pub mod publish;
pub mod server;
pub mod settings;
pub mod subscribe;
pub mod subscriptions;
pub mod telemetry;
pub mod transport;

// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
