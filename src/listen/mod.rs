//! Listening: from sockets to requests.
//!
//! Plain and encrypted connections are accepted within bounds, and each ends in time. Which
//! application answers the requests is a parameter.

mod accept;
mod addresses;
mod allowance;
mod connection;
mod descriptors;
mod frames;
mod framing;
mod http2;
mod intake;
mod peer;
mod presence;
mod sockets;
mod tls;

pub(crate) use self::{
    accept::{Terms, encrypted, plain},
    connection::{Encrypted, Handle},
    descriptors::raise_limit,
    peer::Peer,
    sockets::{Inherited, bind},
    tls::Certificate,
};
