//! Matching: which subscribers an event concerns, and what they may see of it.
//!
//! A topic is matched against exact names, `*`, URL patterns and URI templates. The index holds the
//! interests of one shard's subscribers. Nothing here knows the history or the hub.

mod index;
mod interest;
mod matcher;
mod pattern;

pub use self::{
    index::{Enlisted, Index},
    interest::{Interest, JoinedTopic, Rights},
    matcher::{Matcher, MatcherKind, MatcherLimits, Matchers},
    pattern::{Pattern, PatternKind, PatternStats, SubscribedPatterns, pattern_stats, prepare},
};
