//! The parts of a gateway, each started from its settings.

use std::{io, sync::Arc, time::Duration};

use tidegate_core::{
    calls::Calls,
    clients::{Cell, ClientOptions, Clients, Membership},
    clock::Clock,
    event::{Invalid, Topic},
    history::{Disk, DiskError, History, Memory, Shared},
    hub::Hub,
    state::{Member, StateOptions, States, TopicTerms},
    subscriptions::{self, Names, Registry},
};

use super::Departures;
use crate::{
    policy::rules::TopicRules,
    settings::{MercureSettings, Settings, StoreKind},
};

/// Time that a gateway needs to close its store.
const CLOSING: Duration = Duration::from_secs(1);

/// Starts the state and the members of topics.
pub(super) fn start_states(
    hub: &Hub,
    settings: &Settings,
    rules: Arc<TopicRules>,
) -> io::Result<States> {
    let terms = move |topic: &Topic| {
        let rule = rules.of(topic);
        TopicTerms { private: rule.private, ttl: rule.ttl, tell_from: rule.tell_from }
    };
    let options = StateOptions { terms: Arc::new(terms), ..settings.state_options() };
    States::start(hub.clone(), options, Clock::system())
}

/// Starts the clients, and tells the members of topics that the previous process did not tell.
pub(super) fn start_clients(
    hub: &Hub,
    settings: &Settings,
    states: &States,
    calls: &Calls,
    departures: Departures,
) -> io::Result<Clients> {
    /// Additional time for the clients of the previous process.
    const SLACK: Duration = Duration::from_secs(30);
    let (own, delivery) = (&settings.clients, &settings.delivery);
    let options = ClientOptions {
        grace: own.grace,
        poll_lease: settings.poll.session_lease,
        after_restart: own.grace + delivery.retry + delivery.retry_spread + SLACK,
        capacity: settings.limits.subscribers.saturating_add(own.waiting),
        waiting: own.waiting,
        per_address: own.per_address,
    };
    let (gone, calls) = (states.clone(), calls.clone());
    let on_end = move |cell: &Arc<Cell>| {
        calls.gone(cell.id());
        for (topic, membership) in &cell.client().topics {
            if membership.data.is_some() {
                // A removal is never refused.
                let _ = gone.tell(topic, cell.id(), None);
            }
        }
        if let Some(depart) = departures.0.get() {
            depart(cell);
        }
    };
    let clients = Clients::start(hub.clone(), options, Box::new(on_end))?;
    let here = clients.all();
    let gone = states.reconcile(here.iter().flat_map(|cell| {
        let client = cell.client();
        let member = |(topic, membership): (Topic, Membership)| {
            let seen = member(client.user.as_deref(), &membership)?;
            Some((topic, *cell.id(), seen))
        };
        client.topics.clone().into_iter().filter_map(member).collect::<Vec<_>>()
    }));
    // Their clients ended, but the process did before it could tell.
    for (topic, client) in gone {
        let _ = states.tell(&topic, &client, None);
    }
    Ok(clients)
}

/// What the other members of a topic see of a client; `None` if it is not seen.
pub(crate) fn member(user: Option<&str>, membership: &Membership) -> Option<Member> {
    membership.data.as_ref().map(|data| Member {
        user: user.map(ToOwned::to_owned),
        data: data.as_object().cloned().unwrap_or_default(),
    })
}

/// Starts the list of subscriptions, if it is enabled.
pub(super) fn start_subscriptions(
    hub: &Hub,
    settings: &MercureSettings,
    names: Names,
) -> io::Result<Option<Registry>> {
    if !settings.subscriptions {
        return Ok(None);
    }
    let (capacity, grace) = (settings.max_subscriptions, settings.leave_grace);
    subscriptions::start(hub, names, capacity, grace).map(Some)
}

/// The hub of what does not span several nodes yet: jobs, states and clients. With a shared log
/// they have no routes, and this hub has nothing.
pub(super) fn hub_of_one_node(hub: &Hub, settings: &Settings) -> io::Result<Hub> {
    if settings.history.store != StoreKind::Redis {
        return Ok(hub.clone());
    }
    let memory = Memory::new(settings.history.retention(), Clock::system());
    Hub::start(Arc::new(memory), settings.delivery.tail_bytes, false)
}

/// A history, and the log that it shares with other gateways, if there is one.
type Opened = (Arc<dyn History>, Option<Arc<Shared>>);

/// Opens the history that the settings select.
pub(super) fn open_history(settings: &Settings) -> io::Result<Opened> {
    let (history, clock) = (&settings.history, Clock::system());
    let refused = |invalid: Invalid| io::Error::new(io::ErrorKind::InvalidInput, invalid);
    match history.store {
        StoreKind::Memory => {
            let rules = history.rules(history.memory_bytes, settings).map_err(refused)?;
            let memory = Memory::with_rules(history.retention(), rules, clock);
            let memory = memory.with_reply_limits(settings.publish.reply_limits());
            return Ok((Arc::new(memory), None));
        }
        StoreKind::Redis => {
            let options = history.shared(settings).map_err(io::Error::other)?;
            let shared = Arc::new(Shared::open(options).map_err(io::Error::other)?);
            return Ok((shared.clone(), Some(shared)));
        }
        StoreKind::Disk => {}
    }
    let mut options = history.disk(settings).map_err(refused)?;
    // A stopping gateway keeps the store until its last request has ended.
    options.patience += CLOSING;
    let opened = Disk::open(options, clock);
    let disk = opened.map_err(|error| io::Error::other(unusable(&error)))?;
    Ok((Arc::new(disk), None))
}

/// Says why a store cannot be opened, with the setting, and the user if that is the reason.
pub(crate) fn unusable(error: &DiskError) -> String {
    let DiskError::Refused { path, reason, kind } = error else { return error.to_string() };
    let advice = match kind {
        io::ErrorKind::PermissionDenied => {
            format!("; the gateway runs as {}, who has to read and write it", user())
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; it has to be a directory".to_owned()
        }
        _ => String::new(),
    };
    format!("the store {} (history.path) cannot be used: {reason}{advice}", path.display())
}

/// Returns the user of this process, by name if the system knows it.
pub(super) fn user() -> String {
    #[cfg(target_os = "linux")]
    {
        use nix::unistd::{User, geteuid};
        let id = geteuid();
        let name = User::from_uid(id).ok().flatten().map(|it| it.name);
        name.map_or_else(|| format!("the user {id}"), |name| format!("the user {name} ({id})"))
    }
    #[cfg(not(target_os = "linux"))]
    "this user".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_may_not_be_used_is_told_with_its_setting_and_the_user() {
        for (kind, said) in [
            (io::ErrorKind::PermissionDenied, "the gateway runs as the user "),
            (io::ErrorKind::NotADirectory, "it has to be a directory"),
            (io::ErrorKind::StorageFull, "cannot be used: full"),
        ] {
            let (path, reason) = ("/var/lib/a".into(), "full".to_owned());
            let text = unusable(&DiskError::Refused { path, reason, kind });
            assert!(text.starts_with("the store /var/lib/a (history.path) "), "{text}");
            assert!(!cfg!(target_os = "linux") || text.contains(said), "{text}");
        }
    }
}
