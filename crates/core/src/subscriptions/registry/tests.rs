use super::*;

fn newcomer(client: Client, matcher: &str) -> Newcomer {
    let matched = Matched { kind: MatcherKind::Exact, matcher: matcher.into(), payload: None };
    Newcomer { client, matched: Box::new([matched]) }
}

fn told(registry: &Registry) -> Vec<(String, bool)> {
    let changes = registry.0.take_changes(usize::MAX);
    registry.0.announced(&changes);
    changes.into_iter().map(|it| (it.member.id.clone(), it.active)).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn who_comes_and_goes_is_told_once_each_in_order() {
    let registry = Registry::new(10, Duration::ZERO);
    let one = registry.join(newcomer(Client::alike(1), "a")).expect("room");
    let other = registry.join(newcomer(Client::alike(1), "a")).expect("room");
    assert_eq!(registry.count("exact/a/"), 2);
    drop(one);
    assert_eq!(registry.count("exact/"), 1);
    drop(other);
    let told = told(&registry);
    let flags: Vec<bool> = told.iter().map(|it| it.1).collect();
    assert_eq!(flags, [true, true, false, false]);
    assert_eq!(told[0].0, told[2].0);
    assert_ne!(told[0].0, told[1].0);
}

#[test]
fn who_comes_back_in_time_has_never_left() {
    let registry = Registry::new(10, MINUTE);
    drop(registry.join(newcomer(Client::alike(1), "a")).expect("room"));
    drop(registry.join(newcomer(Client::alike(1), "a")).expect("room"));
    drop(registry.join(newcomer(Client::alike(2), "a")).expect("room"));
    let flags: Vec<bool> = told(&registry).into_iter().map(|it| it.1).collect();
    assert_eq!(flags, [true, true]);
    assert_eq!(registry.0.expire(Instant::now() + 2 * MINUTE), None);
    let flags: Vec<bool> = told(&registry).into_iter().map(|it| it.1).collect();
    assert_eq!(flags, [false, false]);
    assert_eq!(registry.count(""), 0);
    let state = registry.0.state();
    assert!(state.returning.is_empty() && state.leaving.is_empty() && state.n_held == 0);
}

#[test]
fn the_polls_of_a_session_are_one_subscriber() {
    let registry = Registry::new(10, Duration::ZERO);
    let session = || newcomer(Client::session(7, MINUTE), "a");
    let first = registry.join(session()).expect("room");
    let second = registry.join(session()).expect("room");
    assert_eq!(registry.count("exact/a/"), 1);
    drop(first);
    drop(second);
    drop(registry.join(session()).expect("room"));
    assert_eq!(told(&registry).len(), 1);
    registry.0.expire(Instant::now() + 2 * MINUTE);
    assert_eq!(told(&registry).len(), 1);
    assert!(registry.0.state().shared.is_empty());
}

#[test]
fn those_whose_end_is_not_announced_still_count() {
    let registry = Registry::new(1, Duration::ZERO);
    let join = || registry.join(newcomer(Client::alike(1), "a"));
    drop(join().expect("room"));
    assert_eq!(join().err(), Some(Full(1)));
    assert_eq!(told(&registry).len(), 2);
    assert!(join().is_ok());
}

#[test]
fn who_has_no_connection_makes_room() {
    let registry = Registry::new(1, MINUTE);
    drop(registry.join(newcomer(Client::alike(1), "a")).expect("room"));
    assert_eq!(registry.join(newcomer(Client::alike(2), "a")).err(), Some(Full(1)));
    assert_eq!(told(&registry).len(), 2);
    assert!(registry.join(newcomer(Client::alike(2), "a")).is_ok());
}

#[test]
fn lists_are_pages() {
    let registry = Registry::new(10, Duration::ZERO);
    let _here: Vec<_> = ["a", "ab", "b"]
        .map(|it| registry.join(newcomer(Client::alike(1), it)).expect("room"))
        .into();
    let (page, more) = registry.list("exact/a", None, 1);
    assert_eq!((page.len(), more), (1, true));
    let last = page[0].member.keys().next().expect("a key");
    let (page, more) = registry.list("exact/a", Some(&last), 5);
    assert_eq!((&*page[0].matched().matcher, page.len(), more), ("ab", 1, false));
}
