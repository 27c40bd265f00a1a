//! The scripts, which are the only writers of the log.

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Commit,
    Enter,
    Heal,
    Open,
    Beat,
    Newest,
    Leave,
}

impl Script {
    /// All scripts, in the order of their discriminants.
    pub(super) const ALL: [Self; 7] =
        [Self::Commit, Self::Enter, Self::Heal, Self::Open, Self::Beat, Self::Newest, Self::Leave];

    /// The flags tell Redis what to check before the script starts. So a script that is refused
    /// has done nothing. Those that bring the log into order work while memory is full.
    fn flags(self) -> &'static str {
        match self {
            Self::Commit => "",
            Self::Newest => " flags=no-writes",
            Self::Enter | Self::Heal | Self::Open | Self::Beat | Self::Leave => " flags=allow-oom",
        }
    }

    fn body(self) -> &'static str {
        match self {
            Self::Commit => include_str!("lua/commit.lua"),
            Self::Enter => include_str!("lua/enter.lua"),
            Self::Heal => include_str!("lua/heal.lua"),
            Self::Open => include_str!("lua/open.lua"),
            Self::Beat => include_str!("lua/beat.lua"),
            Self::Newest => include_str!("lua/newest.lua"),
            Self::Leave => include_str!("lua/leave.lua"),
        }
    }

    /// The text that Redis loads.
    pub(super) fn text(self) -> String {
        let prelude = include_str!("lua/prelude.lua");
        format!("#!lua{}\n{prelude}\n{}", self.flags(), self.body())
    }
}
