//! Listening: from sockets to requests.
//!
//! Plain and encrypted connections are accepted within bounds, and each ends in time. Which
//! application answers the requests is a parameter.

mod accept;
mod addresses;
mod connection;
mod descriptors;
mod http2;
mod peer;
mod presence;
mod sockets;
mod tls;

pub(crate) use self::{
    accept::{Encrypted, Terms, encrypted, plain},
    connection::Handle,
    descriptors::raise_limit,
    peer::Peer,
    sockets::{Inherited, bind},
    tls::Certificate,
};
