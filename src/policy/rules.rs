//! The `[[topics]]` table: what clients may do with a topic.

use std::time::Duration;

use tidegate_core::{
    event::{Invalid, Topic},
    matching::Matchers,
};

use crate::settings::{Settings, TopicSettings, Who};

/// The rows of the table, and what counts for topics that none of them matches.
#[derive(Debug)]
pub(crate) struct TopicRules {
    rows: Vec<(Matchers, TopicRule)>,
    default: TopicRule,
}

/// What clients may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicRule {
    pub(crate) join: Who,
    pub(crate) send: Who,
    pub(crate) state: Who,
    pub(crate) members: Who,
    /// Whether messages and changes are private.
    pub(crate) private: bool,
    /// Whether events tell which client sent them.
    pub(crate) tell_from: bool,
    /// How long the state is kept after its last change.
    pub(crate) ttl: Option<Duration>,
}

impl TopicRules {
    /// Reads the table.
    ///
    /// # Errors
    /// If a pattern is malformed.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Invalid> {
        let who = if settings.auth.is_development() { Who::Anyone } else { Who::Granted };
        let default = TopicRule {
            join: who,
            send: who,
            state: who,
            members: who,
            private: false,
            tell_from: true,
            ttl: None,
        };
        let row = |row: &TopicSettings| {
            let join = row.join.unwrap_or(who);
            let send = row.send.unwrap_or(who);
            let rule = TopicRule {
                join,
                send,
                state: row.state.unwrap_or(send),
                members: row.members.unwrap_or(join),
                private: row.private,
                tell_from: row.tell_from,
                ttl: row.ttl,
            };
            Ok((row.matchers(settings)?, rule))
        };
        Ok(Self { rows: settings.topics.iter().map(row).collect::<Result<_, _>>()?, default })
    }

    /// What counts for `topic`: the first row that matches it.
    pub(crate) fn of(&self, topic: &Topic) -> TopicRule {
        let row = self.rows.iter().find(|(matchers, _)| matchers.matches(topic));
        row.map_or(self.default, |(_, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_matches_counts() {
        let settings: Settings = toml::from_str(
            r#"
            [[topics]]
            match = "/rooms/lobby"
            join = "anyone"
            send = "server"
            [[topics]]
            match = "/rooms/:id"
            private = true
            tell_from = false
            ttl = "10m"
            [auth]
            publisher_key = "0123456789abcdef0123456789abcdef"
            "#,
        )
        .expect("settings");
        let rules = TopicRules::new(&settings).expect("patterns");
        let of = |topic: &str| rules.of(&Topic::parse(topic, 100).expect("a topic"));
        let lobby = of("/rooms/lobby");
        assert_eq!((lobby.join, lobby.send, lobby.state), (Who::Anyone, Who::Server, Who::Server));
        assert_eq!((lobby.members, lobby.private), (Who::Anyone, false));
        let room = of("/rooms/7");
        assert_eq!((room.join, room.private, room.tell_from), (Who::Granted, true, false));
        assert_eq!(room.ttl, Some(Duration::from_secs(600)));
        assert_eq!(of("/elsewhere").join, Who::Granted);
        let open = TopicRules::new(&Settings::default()).expect("patterns");
        assert_eq!(open.of(&Topic::parse("/x", 9).expect("a topic")).send, Who::Anyone);
    }
}
