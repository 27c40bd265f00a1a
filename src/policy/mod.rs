//! What operators decide about clients: who may do what with a topic, and how often.

pub(crate) mod rate;
pub(crate) mod rules;
