//! What whoever started this process is told: systemd, or another that speaks its protocol.
//!
//! `$NOTIFY_SOCKET` names a datagram socket: a path, or on Linux a name behind `@`, which stands for the zero
//! byte of the abstract namespace. A message is one datagram of `NAME=VALUE` lines: `READY=1` once every
//! database is open, `STOPPING=1` when draining begins. Where nobody asked, nothing is sent; a message that
//! does not arrive is logged, and the node goes on, because it serves its clients and not its supervisor.
//!
//! Left out: `WATCHDOG=1`. A node whose storage hangs is not helped by a restart, and its health is asked over
//! HTTP. `RELOADING=1`: there is nothing to reload.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that every database is open and that requests are answered.
pub fn ready() {
    tell("READY=1");
}

/// Says that the process is about to end, because it was asked to or must.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, message) {
        tracing::warn!(%error, "the supervisor at {} does not hear {message}", socket.display());
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address(socket)?).map(drop)
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        _ => SocketAddr::from_pathname(socket),
    }
}
