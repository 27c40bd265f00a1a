//! Checks that concern several settings: contradictions, and values beyond what clocks and sockets
//! support.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{OldClaim, Settings, SettingsError, TopicSettings, origins};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest deadline, far below where clocks and the kernel's timers overflow.
pub(super) const LONGEST_DEADLINE: Duration = DAY.saturating_mul(24);

/// The largest request body, and the largest text in one, in bytes. A store writes lengths with 32
/// bits.
const LARGEST: usize = 1 << 30;

/// The longest retention.
const LONGEST_RETENTION: Duration = DAY.saturating_mul(36_500);

pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    check_listen(settings)
        .and_then(|()| check_origins(settings))
        .and_then(|()| check_auth(settings))
        .and_then(|()| check_counts(settings))
        .and_then(|()| check_sizes(settings))
        .and_then(|()| check_durations(settings))
        .and_then(|()| settings.history.check(settings))
        .and_then(|()| settings.cluster.check(settings))
        .and_then(|()| settings.jobs.check())
        .and_then(|()| settings.state.check())
        .and_then(|()| check_clients(settings))
        .and_then(|()| check_filter(settings))
        .map_err(SettingsError::Invalid)
}

fn check_listen(settings: &Settings) -> Result<(), String> {
    let (server, tls) = (&settings.server, &settings.tls);
    if server.listen.is_empty() && tls.listen.is_empty() {
        return Err("server.listen names no address".to_owned());
    }
    for (key, file) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
        match (tls.listen.is_empty(), file.as_os_str().is_empty()) {
            (false, true) => return Err(format!("tls.listen needs {key}, which is not set")),
            (true, false) => return Err(format!("{key} is set, but tls.listen names no address")),
            _ => {}
        }
    }
    let open = settings.listeners().find(|it| !it.ip().is_loopback());
    match open {
        Some(address) if settings.auth.is_development() && !server.open_to_everybody => {
            Err(format!(
                "{address} (server.listen, tls.listen) is not a loopback address, but there are no keys, so every client that reaches that address could publish \
             and subscribe; set auth.publisher_key and auth.subscriber_key, listen on a loopback address, or set server.open_to_everybody = true"
            ))
        }
        _ => Ok(()),
    }
}

fn check_origins(settings: &Settings) -> Result<(), String> {
    let Settings { auth, cors, jobs, .. } = settings;
    for origin in cors.origins.iter().filter(|it| *it != origins::ANY) {
        origins::check("cors.origins", origin)?;
    }
    for origin in auth.publish_origins.iter().filter(|it| *it != origins::ANY) {
        origins::check("auth.publish_origins", origin)?;
    }
    for origin in &jobs.result_origins {
        let key = "jobs.result_origins";
        if origin.contains('*') {
            return Err(format!("{key}: `{origin}` is not an origin such as https://example.com"));
        }
        origins::check(key, origin)?;
    }
    if cors.credentials && cors.origins.iter().any(|it| it == origins::ANY) {
        return Err(
            "cors.credentials is true, but cors.origins has `*`; name the origins".to_owned()
        );
    }
    Ok(())
}

fn check_auth(settings: &Settings) -> Result<(), String> {
    let Settings { auth, server, .. } = settings;
    if auth.is_development() {
        return Ok(());
    }
    let may_subscribe = auth.anonymous
        || auth.subscriber().is_some()
        || auth.issuers.iter().any(|it| it.subscriber.is_some());
    if !may_subscribe {
        return Err("no client could subscribe: set auth.subscriber_key, or auth.anonymous = true"
            .to_owned());
    }
    let is_pinned = server.public_url.is_some() || !auth.audiences.is_empty();
    let needs_audience =
        !auth.issuers.is_empty() || settings.mercure.old_token_claims.contains(&OldClaim::Aud);
    if needs_audience && !is_pinned {
        return Err(
            "tokens are to be checked (auth.issuers, mercure.old_token_claims), but not for whom their tokens are: set server.public_url to the address under \
             which clients know the gateway, or name the audiences in auth.audiences"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_counts(settings: &Settings) -> Result<(), String> {
    let at_least_one = [
        ("history.max_events", settings.history.max_events),
        ("history.readers", settings.history.readers),
        ("delivery.tail_bytes", settings.delivery.tail_bytes),
        ("poll.batch_events", settings.poll.batch_events),
        ("limits.body_bytes", settings.limits.body_bytes),
        ("limits.updates_per_request", settings.limits.updates_per_request),
        ("limits.topics_per_update", settings.limits.topics_per_update),
        ("limits.matchers", settings.limits.matchers),
        ("auth.token_bytes", settings.auth.token_bytes),
        ("limits.connections_per_address", settings.limits.connections_per_address),
        ("limits.streams_per_connection", settings.limits.streams_per_connection as usize),
        ("jobs.max_attempts", settings.jobs.max_attempts as usize),
    ];
    match at_least_one.into_iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(format!("{key} is 0; it has to be at least 1")),
        None => Ok(()),
    }
}

/// Checks the sizes of which the store writes the length with 32 bits.
fn check_sizes(settings: &Settings) -> Result<(), String> {
    let limits = &settings.limits;
    let sizes = [
        ("limits.body_bytes", limits.body_bytes),
        ("limits.topic_bytes", limits.topic_bytes),
        ("limits.id_bytes", limits.id_bytes),
        ("limits.type_bytes", limits.type_bytes),
        ("state.document_bytes", settings.state.document_bytes),
        ("state.patch_bytes", settings.state.patch_bytes),
        ("members.bytes", settings.members.bytes),
    ];
    match sizes.into_iter().find(|(_, value)| LARGEST < *value) {
        Some((key, _)) => Err(format!("{key} is more than 1 GiB")),
        None => Ok(()),
    }
}

fn check_clients(settings: &Settings) -> Result<(), String> {
    let clients = &settings.clients;
    let at_least_one = [
        ("clients.actions_per_second", clients.actions_per_second as usize),
        ("clients.burst", clients.burst as usize),
        ("clients.actions_per_second_per_address", clients.actions_per_second_per_address as usize),
        ("clients.actions", clients.actions),
        ("clients.waiting", clients.waiting),
        ("clients.per_address", clients.per_address),
    ];
    if let Some((key, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
        return Err(format!("{key} is 0; it has to be at least 1"));
    }
    if (clients.burst as usize) < clients.actions {
        return Err(format!(
            "clients.burst is {}, less than clients.actions, so a request of {} actions could never be admitted",
            clients.burst, clients.actions
        ));
    }
    if !clients.user_topic.is_empty() && !clients.user_topic.contains("{user}") {
        return Err("clients.user_topic has no `{user}`, so all users would share it".to_owned());
    }
    TopicSettings::check_all(settings)
}

fn check_durations(settings: &Settings) -> Result<(), String> {
    let Settings { server, publish, history, delivery, poll, auth, mercure, jobs, .. } = settings;
    let positive = [
        ("delivery.heartbeat", delivery.heartbeat),
        ("delivery.lifetime", delivery.lifetime),
        ("delivery.write_deadline", delivery.write_deadline),
        ("jobs.lease", jobs.lease),
        ("jobs.ask_time", jobs.ask_time),
        ("auth.jwks_interval", auth.jwks_interval),
        ("auth.jwks_max_age", auth.jwks_max_age),
        ("server.head_timeout", server.head_timeout),
        ("server.body_timeout", server.body_timeout),
    ];
    let others = [
        ("server.keep_alive", server.keep_alive),
        ("server.shutdown_timeout", server.shutdown_timeout),
        ("delivery.retry", delivery.retry),
        ("delivery.retry_spread", delivery.retry_spread),
        ("poll.max_wait", poll.max_wait),
        ("poll.session_lease", poll.session_lease),
        ("mercure.leave_grace", mercure.leave_grace),
        ("history.sync_interval", history.sync_interval),
        ("jobs.backoff", jobs.backoff),
        ("jobs.max_backoff", jobs.max_backoff),
        ("jobs.max_wait", jobs.max_wait),
        ("jobs.progress_interval", jobs.progress_interval),
        ("members.interval", settings.members.interval),
        ("clients.grace", settings.clients.grace),
    ];
    let retentions = [
        ("publish.idempotency_retention", publish.idempotency_retention),
        ("history.max_age", history.max_age),
        ("jobs.log_grace", jobs.log_grace),
        ("jobs.succeeded_retention", jobs.succeeded_retention),
        ("jobs.failed_retention", jobs.failed_retention),
    ];
    let over = |limit: Duration| move |(_, value): &(&str, Duration)| limit < *value;
    if let Some((key, _)) = positive.into_iter().find(|(_, value)| value.is_zero()) {
        return Err(format!("{key} is 0s; it has to be longer"));
    }
    if let Some((key, _)) = positive.into_iter().chain(others).find(over(LONGEST_DEADLINE)) {
        return Err(format!("{key} is longer than 24 days"));
    }
    if let Some((key, _)) = retentions.into_iter().find(over(LONGEST_RETENTION)) {
        return Err(format!("{key} is longer than 100 years"));
    }
    if poll.max_wait < poll.wait {
        return Err("poll.wait is longer than poll.max_wait".to_owned());
    }
    Ok(())
}

fn check_filter(settings: &Settings) -> Result<(), String> {
    let filter = &settings.log.filter;
    EnvFilter::try_new(filter)
        .map(drop)
        .map_err(|error| format!("log.filter: `{filter}` is not a filter: {error}"))
}
