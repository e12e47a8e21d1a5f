//! Names to addresses, with the guard in between: the address that was checked is the one that is dialled.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Guard, Lookup, Refused};

/// Looks names up and keeps only what may be called.
pub(super) struct GuardedResolver {
    pub(super) guard: Guard,
    pub(super) lookup: Arc<dyn Lookup>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, lookup) = (self.guard.clone(), self.lookup.clone());
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            let kept = allowed(&guard, name.as_str(), &found)?;
            // The port of the URL takes the place of 0.
            Ok(Box::new(kept.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// What may be called of what was found; the first refusal if that is nothing.
fn allowed(guard: &Guard, name: &str, found: &[IpAddr]) -> Result<Vec<IpAddr>, Refused> {
    let mut refusal = None;
    let mut kept = Vec::new();
    for address in found {
        match guard.check(name, *address) {
            Ok(()) => kept.push(*address),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    match refusal {
        Some(refused) if kept.is_empty() => Err(refused),
        _ => Ok(kept),
    }
}
