//! tidegate, a push gateway: a backend posts an update once, and every browser that listens gets it.

mod body;
pub mod cli;
pub mod clock;
pub mod delivery;
pub mod event;
mod form;
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
pub mod telemetry;
pub mod transport;
