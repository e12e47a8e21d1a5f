//! What the embedded store does where the ports leave it open: when there is no room, when files are damaged, when commits
//! fail, when it closes under load.

mod common;

mod closing;
mod commits;
mod damage;
mod folder;
mod migrations;
mod pages;
mod retention;
mod room;
