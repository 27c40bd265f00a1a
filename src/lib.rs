//! tidegate, a push gateway: a backend posts an update once, and every subscribed browser receives
//! it.
//!
//! The modules, in the order in which an event passes them:
//!
//! - [`settings`] are the operator's choices.
//! - [`event`] defines updates and events.
//! - [`auth`] decides who may publish and subscribe.
//! - [`publish`] accepts updates.
//! - [`history`] orders and stores events.
//! - [`hub`] matches events to subscribers.
//! - [`delivery`] delivers to each of them.
//! - [`transport`] encodes events.
//! - [`subscribe`] opens streams and answers polls.
//!
//! [`jobs`] are long-running work whose changes are events. [`pages`] and [`ops`] serve users and
//! operators. [`server`] listens, and [`gateway`] holds it all together: start there.

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

// Compiles the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
