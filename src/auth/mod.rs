//! Authentication and authorization: from a request's access token to its bearer's rights.
//!
//! The outcome is the rights, or a refusal whose reason appears only in the log. Two dialects of
//! access tokens are supported. The `typ` of an access token decides whether all rules of draft-08
//! apply to it, or those of draft-07. An access token is verified once per request, and a stream is
//! one request. Nothing is remembered about bearers.
//!
//! An embedding program creates access tokens with [`mint`].

mod claims;
mod explain;
mod grants;
mod identity;
mod jwks;
mod keys;
mod mint;
mod profile;
mod strength;
pub(crate) mod token;

pub use tidegate_core::matching::MatcherKind;

pub(crate) use self::{
    claims::Claims,
    explain::explain,
    grants::{DETAIL, matchers},
    identity::Identity,
    keys::{Keyring, Role},
    profile::Profile,
    strength::{check_keys, doubts},
    token::Flaw,
};
pub use self::{
    claims::Dialect,
    mint::{Order, mint},
};
