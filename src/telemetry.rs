//! Logs.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::settings::{LogFormat, LogSettings};

/// Sends log lines to standard error from now on, for the whole process.
///
/// # Errors
/// If the filter is not valid, which checked settings never are.
pub fn start(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&settings.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call, as in tests that embed several gateways, keeps the first one's subscriber.
    let _ = match settings.format {
        LogFormat::Text => {
            lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
