//! The resources of the HTTP API, one folder each.

pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod jobs;
pub(crate) mod publish;
pub(crate) mod state;
pub(crate) mod subscribe;
pub(crate) mod subscriptions;
