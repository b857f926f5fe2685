//! Servers that start when something is short, start again, and share what they listen on.

#[path = "../support/child.rs"]
mod child;
mod leaks;
mod restart;
mod service;
mod sharing;
mod shortages;
