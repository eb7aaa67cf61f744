//! A database on a server, by its URL: the one place that knows which servers this build can speak to.

use std::sync::Arc;

use crate::error::Result;
use crate::store::ServerPlace;

/// Reads a URL. Nobody is asked yet.
#[cfg(feature = "postgres")]
pub fn server_place(url: &str) -> Result<Arc<dyn ServerPlace>> {
    Ok(Arc::new(crate::store::postgres::PostgresPlace::read(url)?))
}

/// Reads a URL. Nobody is asked yet.
#[cfg(not(feature = "postgres"))]
pub fn server_place(_url: &str) -> Result<Arc<dyn ServerPlace>> {
    use crate::error::Error;
    Err(Error::invalid("POSTGRES_NOT_BUILT", "this build cannot speak to PostgreSQL")
        .hint("build Syncline with its feature `postgres`, which is on by default"))
}
