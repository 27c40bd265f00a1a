//! Access tokens: from the text of one to what it grants its bearer.
//!
//! The outcome is the grants, or a flaw. Two dialects are supported. The `typ` of an access
//! token decides whether all rules of draft-08 apply to it, or those of draft-07. Nothing is
//! remembered about bearers. Requests and their refusals belong to the room `http`.
//!
//! An embedding program creates access tokens with [`mint`].

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

pub use tidegate_core::matching::MatcherKind;

pub(crate) use self::{
    claims::Claims,
    explain::explain,
    flaw::Flaw,
    grants::{DETAIL, matchers},
    identity::Identity,
    keys::{Keyring, Role},
    profile::Profile,
    strength::{check_keys, doubts},
};
pub use self::{
    claims::Dialect,
    mint::{Order, mint},
};
