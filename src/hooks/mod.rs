//! Hooks: requests that the gateway sends to the operator's own servers.

mod webhook;

pub(crate) use self::webhook::Webhooks;
