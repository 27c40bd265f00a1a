//! The reasons why settings cannot be used.

use std::path::PathBuf;

/// Why the settings cannot be used, in one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        reason: std::io::Error,
    },
    /// A variable has the prefix of settings but names none.
    #[error(
        "the environment variable {0} is not a setting; settings are written TIDEGATE_SECTION__KEY"
    )]
    UnknownVariable(String),
    /// A variable that names a secret is empty. Counting it as absent could open the gateway to
    /// everyone.
    #[error("the environment variable {0} is set, but it is empty; give it a value, or unset it")]
    EmptySecret(String),
    /// A key or a value is wrong.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
}
