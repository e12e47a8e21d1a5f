//! Names to addresses, with the guard in between: the address that was checked is the one that is dialled.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Guard, Refused};

/// Resolves by the system and keeps only what may be called.
pub(super) struct GuardedResolver {
    pub(super) guard: Guard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(allowed(&guard, name.as_str(), found)?.into_iter()) as Addrs)
        })
    }
}

/// What may be called of what was found; the first refusal if that is nothing.
fn allowed(
    guard: &Guard,
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Refused> {
    let mut refusal = None;
    let mut kept = Vec::new();
    for address in found {
        match guard.check(name, address.ip()) {
            Ok(()) => kept.push(address),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    match refusal {
        Some(refused) if kept.is_empty() => Err(refused),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_one_good_and_one_refused_address_reaches_only_the_good_one() {
        let guard = Guard::default();
        let good: SocketAddr = "93.184.216.34:0".parse().unwrap();
        let bad: SocketAddr = "169.254.169.254:0".parse().unwrap();
        assert_eq!(allowed(&guard, "rebind.example", [bad, good].into_iter()), Ok(vec![good]));
        let refused = allowed(&guard, "rebind.example", [bad].into_iter()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "rebind.example (169.254.169.254) is a cloud's metadata service and may not be called"
        );
    }
}
