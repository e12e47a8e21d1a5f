//! Which addresses may be called, and paths that cannot leave their base.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crossdock_sdk::{
    Environment,
    http::{BaseUrl, Guard, Url},
};
use proptest::prelude::*;

const LOOPBACK: Environment = Environment { loopback: true };
const PUBLIC: Environment = Environment { loopback: false };

fn guard(environment: Environment, allow: &[&str]) -> Guard {
    let allow: Vec<_> = allow.iter().map(|net| (*net).to_owned()).collect();
    Guard::new(environment, None, &allow).expect("addresses and blocks")
}

/// The IPv6 spellings of an IPv4 address: mapped, compatible, translated, NAT64 and 6to4.
fn spellings(v4: Ipv4Addr) -> [Ipv6Addr; 5] {
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        v4.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
    ]
}

/// Addresses from the blocks that no service should be called at.
fn special() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(c, d)| Ipv4Addr::new(169, 254, c, d)),
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(0, b, c, d)),
        (224..=255u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d)),
        Just(Ipv4Addr::new(100, 100, 100, 200)),
        Just(Ipv4Addr::new(168, 63, 129, 16)),
        Just(Ipv4Addr::new(192, 0, 0, 192)),
    ]
}

/// Addresses at which services are.
fn ordinary() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(10, b, c, d)),
        (16..32u8, any::<u8>(), any::<u8>()).prop_map(|(b, c, d)| Ipv4Addr::new(172, b, c, d)),
        any::<[u8; 2]>().prop_map(|[c, d]| Ipv4Addr::new(192, 168, c, d)),
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(93, b, c, d)),
    ]
}

proptest! {
    #[test]
    fn a_special_address_is_refused_in_every_spelling(v4 in special()) {
        for guard in [guard(LOOPBACK, &[]), guard(PUBLIC, &["10.0.0.0/8"])] {
            prop_assert!(guard.check("x", v4.into()).is_err(), "{v4}");
            for v6 in spellings(v4) {
                let refused = guard.check("x", v6.into());
                // `::` and `::1` are themselves before they are spellings of 0.0.0.0 and 0.0.0.1.
                prop_assert!(refused.is_err() || v6.is_loopback(), "{v6}");
            }
        }
    }

    #[test]
    fn an_ordinary_address_is_called(v4 in ordinary()) {
        let guard = guard(PUBLIC, &[]);
        prop_assert!(guard.check("x", v4.into()).is_ok(), "{v4}");
        prop_assert!(guard.check("x", v4.to_ipv6_mapped().into()).is_ok(), "{v4}");
    }

    #[test]
    fn loopback_is_for_hubs_on_loopback(rest in any::<[u8; 3]>()) {
        let v4 = Ipv4Addr::new(127, rest[0], rest[1], rest[2]);
        for address in [IpAddr::V4(v4), v4.to_ipv6_mapped().into(), Ipv6Addr::LOCALHOST.into()] {
            prop_assert!(guard(LOOPBACK, &[]).check("x", address).is_ok());
            let refused = guard(PUBLIC, &[]).check("x", address).expect_err("it is refused");
            prop_assert!(refused.loopback && refused.advice().contains("allow_loopback"));
            let told = |allow| Guard::new(PUBLIC, Some(allow), &[]).expect("a guard").check("x", address).is_ok();
            prop_assert!(told(true) && !told(false));
        }
    }

    #[test]
    fn a_listed_address_is_called_and_its_neighbour_is_not(last in 1..254u8) {
        let listed = format!("169.254.7.{last}");
        let guard = guard(PUBLIC, &[&listed]);
        prop_assert!(guard.check("x", Ipv4Addr::new(169, 254, 7, last).into()).is_ok());
        prop_assert!(guard.check("x", Ipv4Addr::new(169, 254, 7, last + 1).into()).is_err());
    }

    #[test]
    fn every_way_to_write_an_address_as_a_number_is_seen(v4 in special(), form in 0..4usize) {
        let [a, b, c, d] = v4.octets();
        let number = u32::from(v4);
        let host = [
            format!("{number}"),
            format!("{number:#x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{b}.{}", u16::from_be_bytes([c, d])),
        ];
        let url = Url::parse(&format!("http://{}/", host[form])).expect("a URL");
        prop_assert!(guard(LOOPBACK, &[]).check_url(&url).is_err(), "{url}");
    }

    #[test]
    fn whatever_path_is_rendered_the_call_stays_below_the_base(path in "(/|\\.|%2e|%2F|\\\\|@|:|\\?|#|[a-z]|\\PC){0,12}") {
        let base = BaseUrl::parse("https://api.example/v1/shop").expect("a base");
        if let Ok(url) = base.join(&path) {
            prop_assert_eq!(url.origin(), base.url().origin());
            prop_assert!(url.path() == "/v1/shop" || url.path().starts_with("/v1/shop/"), "{}", url);
            prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        }
    }

    #[test]
    fn an_encoded_segment_arrives_as_one_segment(value in "\\PC{1,20}") {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assume!(value != "." && value != "..");
        let url = BaseUrl::parse("https://api.example").expect("a base").join(&format!("/a/{encoded}/b"));
        let url = url.expect("it is below the base");
        prop_assert_eq!(url.path_segments().map(Iterator::count), Some(3));
    }
}

#[test]
fn a_metadata_service_is_refused_by_its_name() {
    for name in ["metadata.google.internal", "METADATA.GOOG", "instance-data", "metadata.azure.internal."] {
        let url = Url::parse(&format!("http://{name}/computeMetadata/v1/")).expect("a URL");
        assert!(guard(LOOPBACK, &[]).check_url(&url).is_err(), "{name}");
    }
}

#[test]
fn localhost_is_loopback_before_it_is_resolved() {
    for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost"] {
        let url = Url::parse(&format!("http://{name}:9001/")).expect("a URL");
        assert!(guard(PUBLIC, &[]).check_url(&url).is_err(), "{name}");
        assert!(guard(LOOPBACK, &[]).check_url(&url).is_ok(), "{name}");
    }
}
