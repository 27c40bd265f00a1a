//! The parts of the tests: the gateway's binary, and receiving programs.

mod client;
mod gateway;

pub(crate) use self::{
    client::{Client, Event, Library, folder_of_libraries, installed},
    gateway::Gateway,
};
