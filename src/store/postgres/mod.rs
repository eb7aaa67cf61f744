//! A store on a PostgreSQL server: rows in ordinary typed tables, log and position beside them.

#![expect(dead_code, reason = "the store that uses these comes next")]

mod connect;
mod failure;
mod parameter;
mod place;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod types;

pub use place::PostgresPlace;
