//! Authentication and authorization: from a request's access token to its bearer's rights.
//!
//! The outcome is the rights, or a refusal whose reason appears only in the log. Two dialects of
//! access tokens are supported. The `typ` of an access token decides whether all rules of draft-08
//! apply to it, or those of draft-07. An access token is verified once per request, and a stream is
//! one request. Nothing is remembered about bearers.

pub(crate) mod access_token;
mod claims;
mod explain;
mod flaw;
mod grants;
mod identity;
mod jwks;
mod keys;
mod mint;
mod profile;
mod strength;

pub use self::{
    claims::{Claims, Dialect},
    explain::explain,
    flaw::Flaw,
    grants::{Selector, Selectors},
    keys::{KeyError, Keyring, Role},
    mint::{Order, mint},
    strength::{check_keys, doubts},
};
pub(crate) use self::{
    grants::{DETAIL, matchers},
    identity::Identity,
    profile::Profile,
};
