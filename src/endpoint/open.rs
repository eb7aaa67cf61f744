//! Opening an endpoint by its address.

use std::path::Path;

use rusqlite::Connection;

use super::Endpoint;
use super::http::{HttpEndpoint, Login};
use super::sqlite::{Access, SqliteEndpoint};
use crate::error::{Error, Result};

/// Opens `sqlite:PATH`, a bare path, `postgres://…`, `mysql://…` or `http(s)://…`.
pub fn open(address: &str, access: Access) -> Result<Box<dyn Endpoint>> {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "sqlite" => file(address["sqlite:".len()..].trim_start_matches("//"), access),
        "postgres" | "postgresql" => postgres(address, access),
        "mysql" | "mariadb" => mysql(address, access),
        "http" | "https" => http(address, access),
        other if address.contains("://") => Err(unknown(other)),
        _ => file(address, access),
    }
}

fn file(path: &str, access: Access) -> Result<Box<dyn Endpoint>> {
    Ok(Box::new(SqliteEndpoint::open(Path::new(path), access)?))
}

/// What a SQLite file is that nobody has made yet: empty. None for what is no file.
pub fn none_yet(address: &str) -> Option<Box<dyn Endpoint>> {
    let path = address.strip_prefix("sqlite:").unwrap_or(address);
    if path.contains("://") || Path::new(path).exists() {
        return None;
    }
    let memory = Connection::open_in_memory().ok()?;
    Some(Box::new(SqliteEndpoint::over(memory, format!("sqlite:{path}")).ok()?))
}

fn unknown(scheme: &str) -> Error {
    Error::invalid(
        "ENDPOINT_UNKNOWN",
        format!("{scheme}:// is no kind of database that is known here"),
    )
    .hint(
        "write sqlite:PATH, a path, postgres://…, mysql://… or http(s)://… of a gateway or a node",
    )
}

#[cfg(any(not(feature = "postgres"), not(feature = "mysql")))]
fn left_out(feature: &str) -> Error {
    Error::invalid("ENDPOINT_UNKNOWN", format!("this program was built without {feature}"))
        .hint(format!("build it with --features {feature}"))
}

#[cfg(feature = "postgres")]
fn postgres(address: &str, access: Access) -> Result<Box<dyn Endpoint>> {
    Ok(Box::new(super::postgres::PostgresEndpoint::open(address, access)?))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str, _: Access) -> Result<Box<dyn Endpoint>> {
    Err(left_out("postgres"))
}

#[cfg(feature = "mysql")]
fn mysql(address: &str, access: Access) -> Result<Box<dyn Endpoint>> {
    Ok(Box::new(super::mysql::MysqlEndpoint::open(address, access)?))
}

#[cfg(not(feature = "mysql"))]
fn mysql(_: &str, _: Access) -> Result<Box<dyn Endpoint>> {
    Err(left_out("mysql"))
}

/// Who we are is said by the environment: it stands in no argument.
fn http(address: &str, access: Access) -> Result<Box<dyn Endpoint>> {
    let login = Login::from_environment()?;
    Ok(Box::new(HttpEndpoint::open(address, access, &login)?))
}
