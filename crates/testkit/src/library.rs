//! For tests and benchmarks that call the library.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use tidegate_core::event::{Draft, Invalid, Limits, Update};
use url::Url;

/// Validates a draft with limits that are higher than what tests need.
///
/// # Errors
/// If a field breaks a rule.
pub fn validated(draft: Draft) -> Result<Update, Invalid> {
    let limits = Limits {
        topics: 100,
        topic_bytes: 1000,
        id_bytes: 1000,
        type_bytes: 1000,
        except: 10,
        client_key_bytes: 100,
    };
    let hub = Url::parse("http://localhost/.well-known/mercure").expect("a valid address");
    draft.validate(&limits, &hub)
}

/// An update of one topic.
pub fn update(topic: &str, data: String) -> Update {
    let draft = Draft { topics: vec![topic.to_owned()], data, ..Draft::default() };
    validated(draft).expect("a valid draft")
}

/// Returns the value of a future that is ready at once, as those of a history in memory are.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a history in memory does not wait"),
    }
}
