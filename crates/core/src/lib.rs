//! The core of tidegate: from a valid update to bytes for each receiver. It knows neither HTTP nor
//! settings files.
//!
//! The modules, in the order in which an event passes them:
//!
//! - [`event`] defines updates and events.
//! - [`matching`] decides which subscribers an event concerns.
//! - [`history`] orders and stores events.
//! - [`transport`] encodes events.
//! - [`hub`] accepts updates and notifies shards.
//! - [`delivery`] delivers to each subscriber.
//!
//! [`clients`] join topics and act, [`calls`] to them wait for replies, [`jobs`] are long-running
//! work whose changes are events, [`state`] is a JSON object for each topic and the clients that
//! are present in it, [`subscriptions`] the list of current subscriptions, and the [`ledger`]
//! keeps replies to repeated requests. A [`budget`] limits an amount in total and per address,
//! [`clock`] is the wall clock, and [`random`] makes names.

pub mod budget;
pub mod calls;
pub mod clients;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod history;
pub mod hub;
pub mod jobs;
pub mod ledger;
pub mod matching;
pub mod random;
mod shrink;
pub mod state;
pub mod subscriptions;
pub mod transport;
