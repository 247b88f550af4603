//! The whole program against real parts: PostgreSQL servers that the tests start themselves, the official SDKs,
//! Prometheus. One binary, so that the cluster is started once; each test has a database of its own.

// Nothing outside can reach a test binary, so pub is as good as pub(crate).
#![allow(unreachable_pub)]
// A test fails by panicking, and a list of one range of numbers is meant as such.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod alerts;
mod auth;
mod backup;
mod bad_config;
mod bad_input;
mod beside;
mod binary;
mod certificates;
mod clusters;
mod connection_strings;
mod connections;
mod constraints;
mod contextforge;
mod counts;
mod dashboards;
mod dead_letters;
mod docs;
mod doctor;
mod dropped;
mod embedded;
mod existing;
mod fields;
mod folding;
mod hijack;
mod indexes;
mod lifecycle;
mod load;
mod losses;
mod migrations;
mod outage;
mod over_http;
mod partitioned;
mod partitions;
mod pictures;
mod prometheus;
mod publication;
mod push;
mod query;
mod queue;
mod reading;
mod reload;
mod retention;
mod schema;
mod sdk;
mod securing;
mod settings;
mod strays;
mod tail;
mod taking_over;
mod tls;
mod triggers;
