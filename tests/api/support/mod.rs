//! Shared by the tests: gateways, what tests ask them, and what their replies must be.

pub mod fickle;
mod gateway;
mod requests;
pub mod sinks;
pub mod tls;
pub mod tokens;
pub mod watch;

pub use tidegate_testkit::{deadline::DEADLINE, launch::directory, raw, sse};

pub use self::{
    gateway::{Gateway, command, program},
    requests::{problem, text_at, untimed},
};
