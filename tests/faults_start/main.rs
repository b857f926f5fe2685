//! Servers that start when something is short, start again, and share what they listen on.

#[path = "../support/child.rs"]
mod child;
mod leaks;
#[path = "../support/raw.rs"]
mod raw;
mod restart;
#[path = "../support/rig.rs"]
mod rig;
mod service;
mod sharing;
mod shortages;
