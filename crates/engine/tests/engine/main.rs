//! The engine over broker and stores in memory and an action that follows a script. Time is paused: waits of hours take
//! none, and every run is the same.

mod beginning;
mod gate;
mod health;
mod line;
mod moves;
mod relay;
mod replays;
mod retries;
mod rig;
mod trace;
mod workers;
