//! Shared state: one JSON object for each topic, and the clients that are present in it.
//!
//! A change is an event on the topic, with a merge patch and a revision that grows by one. So it is
//! ordered, resumed and encoded like every other event. The change and the records of the document
//! are one submission, on the condition that the document is still as it was. The table follows the
//! history, so that it also learns of changes by other processes.
//!
//! One thread writes. It takes what waits, in order, and submits it together: many changes of one
//! document cost one sync. What the state means is unknown to this module, and so are rights.

mod batch;
mod change;
mod document;
mod draft;
mod error;
mod gathering;
mod item;
mod member;
mod options;
mod patch;
#[cfg(test)]
mod patch_tests;
mod record;
mod shared;
mod states;
mod table;
#[cfg(test)]
mod tests;
mod work;
mod writer;

pub use self::{
    document::{MemberPage, MemberView, Members, StateObject, View},
    error::{StateError, StateRefusal},
    member::Member,
    options::{StateOptions, TopicTerms},
    patch::MergePatch,
    states::States,
    table::StateCounts,
    work::{Beside, Change, Did, MakeBeside, Step, Stored, Work},
};
