//! Who may: from a request's token to what its bearer may publish and receive.
//!
//! A request comes in; rights go out, or a refusal whose reason only the log tells. Two dialects of tokens are understood,
//! and the token's own `typ` decides which rules hold for it: those of draft-08, all of them, or those of draft-07. A
//! token is verified once per request, and a stream is one request. Nothing is remembered about bearers.

mod access;
mod claims;
mod explain;
mod grants;
mod identity;
mod jwks;
mod keys;
mod metadata;
mod mint;
mod presentation;
mod profile;
pub(crate) mod token;

pub(crate) use self::{
    access::{Publisher, Subscriber, anonymous, publisher, subscriber},
    metadata::{hub_url, metadata},
    profile::Profile,
};
pub use self::{
    claims::{Claims, Dialect},
    explain::explain,
    grants::{Selector, Selectors},
    keys::{KeyError, Keyring, Role},
    mint::{Order, mint},
    token::Flaw,
};
