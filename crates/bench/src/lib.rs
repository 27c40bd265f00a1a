//! Load measurement: `tidegate bench` holds subscribers, publishes, and reports what arrived, how
//! fast, and what it cost the server.
//!
//! A `Plan` comes from the command line, a [`Report`] goes out. One thread runs all subscribers and
//! a second one all publishers, so that the server is measured, not the client. It speaks HTTP/1.1
//! to any Mercure hub, and uses only what every client of a gateway can see.

mod connection;
mod descriptors;
mod ledger;
mod marker;
mod plan;
mod process;
mod publisher;
mod report;
mod response;
mod run;
mod subscriber;
mod tally;
mod target;
mod tls;
mod transport;

use std::io;

pub use self::{plan::Flags, report::Report};

/// Why a run has no report. The text says how to fix it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] BenchError);

/// Holds subscribers, publishes, and measures, as `flags` demand. Blocks until the run has ended.
///
/// # Errors
/// If the server cannot be reached or refuses every subscriber, or if the flags contradict each
/// other.
pub fn run(flags: &Flags) -> Result<Report, Error> {
    Ok(run::run(flags)?)
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("a message has {least} bytes at least, which tell what it is, and {most} at most")]
    Payload { least: usize, most: u64 },
    #[error("a token may have visible ASCII characters only")]
    Token,
    #[error("the address of {host} cannot be found: {reason}")]
    Unresolved { host: String, reason: io::Error },
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: io::Error },
    #[error(
        "where {transport} is served cannot be told from the address of a hub; give the gateway's own, with a `/` \
         at its end"
    )]
    Transport { transport: &'static str },
    #[error("certificates cannot be checked for the name in this address")]
    ServerName,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error(
        "{needed} descriptors are needed, but this process may open {limit}: raise the limit (`ulimit -n {needed}`), \
         or ask for fewer subscribers"
    )]
    Descriptors { needed: u64, limit: u64 },
    #[error("process {pid} cannot be watched: {reason}")]
    Process { pid: u32, reason: String },
    #[error("no subscriber got in: {reason}")]
    NoneConnected { reason: String },
    #[error("{0}")]
    Io(#[from] io::Error),
}
