//! Looking after a store from the command line.
