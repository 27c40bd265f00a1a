//! The transports over which the subscribers of a run receive.

/// How a subscriber receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// EventSource.
    Sse,
    /// The forever iframe.
    Iframe,
    /// Long poll.
    Poll,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::Sse, Self::Iframe, Self::Poll];

    /// Returns the name used on the command line and in the report.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Iframe => "iframe",
            Self::Poll => "poll",
        }
    }
}
