//! What tests of a gateway process share: the process, its clients, and the network between them.

pub mod deadline;
pub mod environment;
pub mod gateway;
mod greeting;
pub mod launch;
pub mod library;
mod metrics;
pub mod network;
pub mod nginx;
pub mod ports;
pub mod programs;
pub mod raw;
pub mod redis;
mod requests;
pub mod sse;
pub mod tls;
pub mod tokens;
