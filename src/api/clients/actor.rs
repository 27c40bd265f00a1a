//! A client with the rights of one request.

use std::sync::Arc;

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
}

/// An action, or why it is none.
pub(super) type Asked = Result<Action, Problem>;

impl Actor {
    pub(super) fn new(gateway: Gateway, cell: Arc<Cell>, visitor: Visitor) -> Self {
        Self { gateway, cell, visitor }
    }
}

/// The result of an action that was refused.
pub(super) fn refused(problem: &Problem) -> Value {
    json!({ "problem": problem.document() })
}
