//! The hub: what the API and the command line talk to.
