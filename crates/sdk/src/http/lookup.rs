//! Where addresses of names come from.

use std::{io, net::IpAddr};

use async_trait::async_trait;

/// Finds the addresses of a name. What it finds goes through the guard of the client before it is dialled.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The addresses, in the order in which they are tried. The time-out is that of connecting.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the system: its hosts file, its name servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}
