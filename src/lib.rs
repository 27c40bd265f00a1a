//! tidegate, a push gateway: a backend posts an update once, and every subscribed browser receives
//! it.
//!
//! The modules, from the bottom up:
//!
//! - [`settings`] are the operator's choices.
//! - [`auth`] verifies access tokens.
//! - [`telemetry`] has logging and metrics.
//! - `hooks` sends requests to the operator's own servers.
//! - `listen` turns sockets into requests.
//! - [`gateway`] holds the state that all requests share: start there.
//! - `http` is what the handlers have in common, [`problem`] its errors.
//! - `pages` has the start page and the embedded files.
//! - `api` has the handlers, one folder for each resource, and `ops` those for operators.
//! - [`server`] runs a gateway.
//! - [`cli`] has the subcommands and flags.
//!
//! What is below HTTP is in `tidegate-core`: [`event`], [`matching`], [`history`], [`hub`],
//! [`transport`], [`delivery`], [`jobs`], [`subscriptions`], [`budget`] and [`clock`].

mod api;
pub mod auth;
pub mod cli;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
mod hooks;
mod http;
mod listen;
mod ops;
mod pages;
pub mod server;
pub mod settings;
pub mod telemetry;

pub use tidegate_core::{
    budget, clock, delivery, event, history, hub, matching, subscriptions, transport,
};

pub use self::http::problem;

/// Jobs: long-running work whose changes are events, and the workers that do it.
pub mod jobs {
    pub use tidegate_client::{Task, WorkError, Worker, WorkerError};
    pub use tidegate_core::jobs::*;
}

// Compiles the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
