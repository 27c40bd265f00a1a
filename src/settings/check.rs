//! What no single key can tell: whether the settings make sense as a whole and stay within what clocks and sockets bear.

use std::time::Duration;

use tracing_subscriber::EnvFilter;
use url::Url;

use super::{Settings, SettingsError};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Deadlines: far below where clocks and the kernel's timers overflow.
const LONGEST_DEADLINE: Duration = DAY.saturating_mul(24);

/// How long things are kept.
const LONGEST_RETENTION: Duration = DAY.saturating_mul(36_500);

pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    check_listen(settings)
        .and_then(|()| check_origins(settings))
        .and_then(|()| check_counts(settings))
        .and_then(|()| check_durations(settings))
        .and_then(|()| settings.history.check(settings.limits.topic_bytes))
        .and_then(|()| settings.jobs.check())
        .and_then(|()| check_filter(settings))
        .map_err(SettingsError::Invalid)
}

fn check_listen(settings: &Settings) -> Result<(), String> {
    let server = &settings.server;
    if server.listen.is_empty() {
        return Err("server.listen names no address".to_owned());
    }
    let open = server.listen.iter().find(|it| !it.ip().is_loopback());
    match open {
        Some(address) if !server.open_to_everybody => Err(format!(
            "server.listen is {address}, but there are no keys, so everybody who reaches that address could publish \
             and subscribe; listen on a loopback address, or set server.open_to_everybody = true"
        )),
        _ => Ok(()),
    }
}

fn check_origins(settings: &Settings) -> Result<(), String> {
    let cors = settings.cors.origins.iter().map(|it| ("cors.origins", it));
    let results = settings.jobs.result_origins.iter().map(|it| ("jobs.result_origins", it));
    for (key, origin) in cors.chain(results) {
        let parsed = Url::parse(origin);
        if !parsed.is_ok_and(|it| it.origin().ascii_serialization() == *origin) {
            return Err(format!("{key}: `{origin}` is not an origin such as https://example.com"));
        }
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
        ("jobs.max_attempts", settings.jobs.max_attempts as usize),
    ];
    match at_least_one.into_iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(format!("{key} is 0; it has to be at least 1")),
        None => Ok(()),
    }
}

fn check_durations(settings: &Settings) -> Result<(), String> {
    let Settings { server, publish, history, delivery, poll, jobs, .. } = settings;
    let positive = [
        ("delivery.heartbeat", delivery.heartbeat),
        ("delivery.lifetime", delivery.lifetime),
        ("jobs.lease", jobs.lease),
        ("server.head_timeout", server.head_timeout),
        ("server.body_timeout", server.body_timeout),
    ];
    let others = [
        ("server.keep_alive", server.keep_alive),
        ("server.shutdown_timeout", server.shutdown_timeout),
        ("delivery.retry", delivery.retry),
        ("delivery.retry_spread", delivery.retry_spread),
        ("delivery.write_deadline", delivery.write_deadline),
        ("poll.max_wait", poll.max_wait),
        ("poll.session_lease", poll.session_lease),
        ("history.sync_interval", history.sync_interval),
        ("jobs.backoff", jobs.backoff),
        ("jobs.max_backoff", jobs.max_backoff),
        ("jobs.max_wait", jobs.max_wait),
        ("jobs.progress_interval", jobs.progress_interval),
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
