//! Which addresses may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::Environment;

/// An address that may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is {what} and may not be called", named(.host, .address))]
pub struct Refused {
    /// The name or address that was to be called.
    pub host: String,
    /// The address behind it.
    pub address: String,
    /// What kind of address that is.
    pub what: &'static str,
    /// Whether `allow_loopback` would allow it.
    pub loopback: bool,
}

fn named(host: &str, address: &str) -> String {
    if host == address { address.to_owned() } else { format!("{host} ({address})") }
}

impl Refused {
    /// What an operator may do.
    pub fn advice(&self) -> String {
        if self.loopback {
            "set `allow_loopback: true` if the connection is meant to call this machine".to_owned()
        } else {
            format!("list {} in `allow_addresses` if the connection is meant to call it", self.address)
        }
    }
}

/// Which addresses may be called.
///
/// Public and private ones may (100.64.0.0/10 counts as private: overlay and cluster networks use it): configuration is
/// written by the operators of the hub, which mostly runs inside their network. Loopback is for hubs that are on
/// loopback themselves. What a private network has at addresses that no service should be called at (link-local, cloud
/// metadata, multicast and other special ranges) is always refused, in every spelling, unless `allow_addresses` names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Guard {
    loopback: bool,
    allow: Vec<IpNet>,
}

/// Names under which clouds serve credentials, whatever they resolve to.
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data"];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// From the IANA special-purpose registry, and the places where clouds serve credentials inside ranges that are else fine:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>.
const REFUSED_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "not an address of a service"),
    (v4(169, 254, 169, 254, 32), "a cloud's metadata service"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(100, 100, 100, 200, 32), "a cloud's metadata service"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata service"),
    (v4(192, 0, 0, 192, 32), "a cloud's metadata service"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation only"),
    (v4(198, 51, 100, 0, 24), "for documentation only"),
    (v4(203, 0, 113, 0, 24), "for documentation only"),
    (v4(198, 18, 0, 0, 15), "for benchmarks only"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, as above.
const REFUSED_V6: [(Ipv6Net, &str); 14] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation only"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation only"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved for protocols"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "a local translation prefix"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "for discarding only"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "reserved"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "reserved for routing"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "a mapped address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "not an address of a service"),
];

impl Guard {
    /// The guard of a connection. `allow_loopback` has the last word over the environment. `allow_addresses` are addresses
    /// or blocks such as `10.0.0.0/8`; `Err` is one that is neither.
    pub fn new(
        environment: Environment,
        allow_loopback: Option<bool>,
        allow_addresses: &[String],
    ) -> Result<Self, String> {
        let parse = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| format!("`{text}` is neither an address nor a block such as 169.254.10.0/24"))
        };
        let mut allow = allow_addresses.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        allow.sort_unstable();
        Ok(Self { loopback: allow_loopback.unwrap_or(environment.loopback), allow })
    }

    /// What can be said before a name is resolved: addresses, `localhost`, and the names of metadata services.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_literal(address.into()),
            Some(Host::Ipv6(address)) => self.check_literal(address.into()),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") {
                    return self.check(name, Ipv4Addr::LOCALHOST.into());
                }
                if METADATA_NAMES.contains(&name) && self.allow.is_empty() {
                    return Err(refused(name, name, "a cloud's metadata service"));
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether this address, which `host` stands for, may be called.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let canonical = embedded(address).unwrap_or(address);
        if self.allow.iter().any(|net| net.contains(&address) || net.contains(&canonical)) {
            return Ok(());
        }
        if canonical.is_loopback() {
            let refused = Refused { loopback: true, ..refused(host, &canonical.to_string(), "loopback") };
            return if self.loopback { Ok(()) } else { Err(refused) };
        }
        match special(canonical) {
            Some(what) => Err(refused(host, &address.to_string(), what)),
            None => Ok(()),
        }
    }

    fn check_literal(&self, address: IpAddr) -> Result<(), Refused> {
        self.check(&address.to_string(), address)
    }
}

fn refused(host: &str, address: &str, what: &'static str) -> Refused {
    Refused { host: host.to_owned(), address: address.to_owned(), what, loopback: false }
}

fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => REFUSED_V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, what)| *what),
        IpAddr::V6(v6) => REFUSED_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, what)| *what),
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64 or 6to4.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}
