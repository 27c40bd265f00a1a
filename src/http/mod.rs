//! HTTP: what the handlers of all resources share.
//!
//! Who sends a request and what it may do, how its body and headers are read, and how errors become
//! problem documents.

pub(crate) mod accept;
pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod client_key;
pub(crate) mod etag;
pub(crate) mod form;
mod full;
pub(crate) mod guard;
pub(crate) mod headers;
pub(crate) mod idempotency;
pub(crate) mod metadata;
pub(crate) mod origin;
mod prefer;
mod presentation;
pub(crate) mod problem;
mod public;
pub(crate) mod refusals;
mod resource;

pub(crate) use self::{
    prefer::preferred_wait,
    presentation::ACCESS_TOKEN_PARAMETER,
    public::{MountedAt, client_address, own_path, public_base},
    resource::resource,
};
