//! A client with the rights of one request.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Value, json};
use tidegate_core::clients::Cell;

use super::request::Action;
use crate::{
    gateway::Gateway,
    http::{access::Visitor, problem::Problem},
};

/// A client with the rights of one request.
pub(super) struct Actor {
    pub(super) gateway: Gateway,
    pub(super) cell: Arc<Cell>,
    pub(super) visitor: Visitor,
    /// The address that further clients count for.
    pub(super) address: Option<IpAddr>,
}

/// An action, or why it is none.
pub(super) type Asked = Result<Action, Problem>;

/// The result of an action that was refused.
pub(super) fn refused(problem: &Problem) -> Value {
    json!({ "problem": problem.document() })
}
