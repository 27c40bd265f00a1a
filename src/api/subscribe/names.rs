//! Names of parameters, and names that are refused instead of ignored, because a parameter is
//! meant. Its subscriber would wait in vain, or not resume where it left off.

use crate::http::{
    form::{Misspelled, meant},
    problem::Problem,
};

/// The name of a parameter that may be given at most once.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Whether it stays the same between connections, so that the next request repeats it.
    pub(super) is_lasting: bool,
    /// Names that are refused, because the parameter is meant.
    pub(super) misspelled: &'static [&'static str],
}

/// Names of Mercure's parameters, each with names that no dialect and no known library uses. They
/// are refused at every address.
const OF_MERCURE: [Misspelled; 4] = [
    ("topic", &["Topic", "TOPIC", "topics", "Topics", "topic[]", "topics[]"]),
    ("match", &["Match", "MATCH", "matches", "matcher", "matchers", "match[]"]),
    (
        "last_event_id",
        &[
            "last_event",
            "lastevent",
            "lastEvent",
            "last-event",
            "last_id",
            "lastid",
            "lastId",
            "lastID",
            "lasteventid",
            "lasteventID",
            "lastEventid",
            "LastEventId",
            "LastEventID",
            "last_eventid",
            "lastevent_id",
            "last-event-id",
            "Last-Event-Id",
            "LAST_EVENT_ID",
        ],
    ),
    ("match_urlpattern", &["match_url_pattern", "match_pattern", "match_url"]),
];

/// The same for addresses of the gateway alone. A reply of a poll has the fields `cursor` and `id`.
const OF_THE_GATEWAY: [Misspelled; 1] =
    [("last_event_id", &["cursor", "event_id", "eventid", "eventId"])];

/// Checks an unknown name. `known` are the parameters of a transport.
///
/// # Errors
/// If it is on the lists, or if it is reserved: names that begin with `match`, in any case
/// (draft-08, "Subscribers").
pub(super) fn check<'a>(
    name: &str,
    is_hub: bool,
    mut known: impl Iterator<Item = &'a Parameter>,
) -> Result<(), Problem> {
    let mut right = meant(&OF_MERCURE, name);
    if !is_hub {
        right = right.or_else(|| meant(&OF_THE_GATEWAY, name));
        right = right.or_else(|| known.find(|it| it.misspelled.contains(&name)).map(|it| it.name));
    }
    if let Some(right) = right {
        let detail = format!("`{name}` is no parameter; `{right}` is meant");
        return Err(Problem::field(name, detail));
    }
    if name.as_bytes().get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"match")) {
        return Err(unknown_matcher(name));
    }
    Ok(())
}

fn unknown_matcher(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    let detail = format!(
        "`{name}` is no matcher of this gateway: it knows `topic`, `match`, `match_exact`, `match_urlpattern` and \
         `match_uritemplate`"
    );
    Problem::field(name, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_listed_name_is_one_that_clients_of_mercure_send() {
        // draft-08, draft-07, and the libraries in `tests/clients`.
        const SENT: [&str; 8] = [
            "topic",
            "match",
            "match_exact",
            "match_urlpattern",
            "last_event_id",
            "lastEventID",
            "Last-Event-ID",
            "lastEventId",
        ];
        let listed: Vec<&str> = OF_MERCURE
            .iter()
            .chain(&OF_THE_GATEWAY)
            .flat_map(|(_, wrong)| *wrong)
            .copied()
            .collect();
        for (at, wrong) in listed.iter().enumerate() {
            assert!(!SENT.contains(wrong), "{wrong}");
            assert!(!listed[..at].contains(wrong), "{wrong} is listed twice");
        }
    }
}
