//! What a subscriber's turn is. Both sinks ask here: the shard before it writes to a socket, and
//! the feed of a body or a poll.

use crate::transport::EndReason;

/// A subscriber at the beginning of its turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// A notice, such as a gap, has to be told first: cursor tokens after it are beyond the gap.
    pub(super) has_notice: bool,
    /// An event was sent in part, and its rest has to follow.
    pub(super) is_within_event: bool,
    /// The gateway is stopping.
    pub(super) is_draining: bool,
    /// Why the subscription has to end, if it has to.
    pub(super) ends: Option<EndReason>,
    /// That does not count yet: a page of events is on its way to a poll.
    pub(super) is_within_page: bool,
    /// The document has reached its maximum size.
    pub(super) is_full: bool,
    /// There may be events for the subscriber.
    pub(super) is_behind: bool,
    /// The subscriber was silent for the heartbeat interval.
    pub(super) owes_heartbeat: bool,
}

/// What to do in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send the notice.
    Notice,
    /// Send the rest of an event, then further events.
    Rest,
    /// End the stream.
    End(EndReason),
    /// Send the next events.
    Events,
    /// Send a heartbeat.
    Heartbeat,
    /// Nothing: the subscriber has everything.
    Live,
}

impl Turn {
    /// Decides what the turn of a subscriber is.
    pub(super) fn of(it: Standing) -> Self {
        let ends = it.ends.filter(|_| !it.is_within_page);
        match () {
            () if it.has_notice => Self::Notice,
            () if it.is_within_event => Self::Rest,
            () if it.is_draining => Self::End(EndReason::Drain),
            () if let Some(reason) = ends => Self::End(reason),
            () if it.is_full => Self::End(EndReason::Recycled),
            () if it.is_behind => Self::Events,
            () if it.owes_heartbeat => Self::Heartbeat,
            () => Self::Live,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_precede_ends_and_ends_precede_events_unless_one_was_begun() {
        let all = Standing {
            has_notice: true,
            is_within_event: true,
            is_draining: true,
            ends: Some(EndReason::Lifetime),
            is_within_page: false,
            is_full: true,
            is_behind: true,
            owes_heartbeat: true,
        };
        let mut it = all;
        let mut turns = vec![Turn::of(it)];
        let met: [fn(&mut Standing); 7] = [
            |it| it.has_notice = false,
            |it| it.is_within_event = false,
            |it| it.is_draining = false,
            |it| it.ends = None,
            |it| it.is_full = false,
            |it| it.is_behind = false,
            |it| it.owes_heartbeat = false,
        ];
        for met in met {
            met(&mut it);
            turns.push(Turn::of(it));
        }
        let expected = [
            Turn::Notice,
            Turn::Rest,
            Turn::End(EndReason::Drain),
            Turn::End(EndReason::Lifetime),
            Turn::End(EndReason::Recycled),
            Turn::Events,
            Turn::Heartbeat,
            Turn::Live,
        ];
        assert_eq!(turns, expected);
        let polled = Standing {
            ends: Some(EndReason::Lifetime),
            is_within_page: true,
            ..Standing::default()
        };
        assert_eq!(Turn::of(Standing { is_behind: true, ..polled }), Turn::Events);
        assert_eq!(Turn::of(Standing { is_draining: true, ..polled }), Turn::End(EndReason::Drain));
    }
}
