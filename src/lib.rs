//! tidegate, a push gateway: a backend posts an update once, and every browser that listens gets it.

pub mod clock;
pub mod delivery;
pub mod event;
pub mod history;
pub mod hub;
pub mod settings;
pub mod transport;
