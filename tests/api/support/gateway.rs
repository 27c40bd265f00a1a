//! The gateways of these tests.

use std::{
    ops::{Deref, DerefMut},
    process::Command,
    sync::Arc,
};

use tempfile::TempDir;
use tidegate_testkit::{
    environment, gateway,
    launch::{Launch, directory},
};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// Keeps the history in memory, which is fast and enough for tests without a restart.
const IN_MEMORY: (&str, &str) = ("HISTORY__STORE", "memory");

/// A running gateway of its own.
pub struct Gateway(gateway::Gateway);

impl Gateway {
    /// A gateway with default settings and the history in memory.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A gateway with some settings, written like `("DELIVERY__HEARTBEAT", "1s")`, and the history
    /// in memory.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self(launch(directory()).with(&[IN_MEMORY]).with(settings).start())
    }

    /// A gateway that may open this many descriptors.
    pub fn with_descriptors(limit: usize, settings: &[(&str, &str)]) -> Self {
        let launch = launch(directory()).with(settings).with(&[IN_MEMORY]);
        Self(launch.after(&format!("ulimit -n {limit}")).start())
    }

    /// A gateway that keeps the history on disk, in a directory of its own.
    pub fn durable(settings: &[(&str, &str)]) -> Self {
        Self::on(directory(), settings)
    }

    /// A gateway that keeps the history on disk, and that survives a file growing too large.
    pub fn durable_without_signals() -> Self {
        Self::after("trap '' XFSZ", directory())
    }

    /// A gateway with the store in a directory, which another gateway may have left.
    pub fn on(directory: Arc<TempDir>, settings: &[(&str, &str)]) -> Self {
        Self(launch(directory).with(settings).start())
    }

    /// A gateway whose process has run these shell commands first.
    pub fn after(preamble: &str, directory: Arc<TempDir>) -> Self {
        Self(launch(directory).after(preamble).start())
    }

    /// Kills it, and starts another gateway on what it left.
    pub fn crash(mut self, settings: &[(&str, &str)]) -> Self {
        self.kill();
        Self::on(self.directory.clone(), settings)
    }
}

impl Deref for Gateway {
    type Target = gateway::Gateway;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn launch(directory: Arc<TempDir>) -> Launch {
    Launch::new(PROGRAM, directory)
}

/// A command for the gateway in a directory.
pub fn command(directory: &Arc<TempDir>, settings: &[(&str, &str)]) -> Command {
    launch(directory.clone()).with(settings).command()
}

/// A command for the program, without arguments or settings.
pub fn program() -> Command {
    environment::command(PROGRAM)
}
