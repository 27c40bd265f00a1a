//! Access tokens: from the text of one to what it grants its bearer.
//!
//! The outcome is the grants, or a [`Flaw`]. Two dialects are supported. The `typ` of an access
//! token decides whether all rules of draft-08 apply to it, or those of draft-07. Nothing is
//! remembered about bearers. Requests and their refusals belong to the room `http`.

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

pub use self::{
    claims::{Claims, Dialect},
    explain::explain,
    grants::{Selector, Selectors},
    keys::{KeyError, Keyring, Role},
    mint::{Order, mint},
    strength::{check_keys, doubts},
    token::Flaw,
};
pub(crate) use self::{
    grants::{DETAIL, matchers},
    identity::Identity,
    profile::Profile,
};
