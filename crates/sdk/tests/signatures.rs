//! Recipes of vendors, compared with what the vendors publish, and what every recipe promises.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossdock_sdk::{
    Inbound, SecretString,
    signature::{Recipe, SecretError, StandardSigner, Unverified, Verifier},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

/// A vendor's recipe with a request that the vendor would send.
struct Vendor {
    name: &'static str,
    recipe: &'static str,
    secret: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// When it was signed.
    at: &'static str,
}

const BODY: &str = r#"{"a":"ü"}"#;
const THEN: &str = "2023-11-14T22:13:20Z";

/// Where no source is named, the signature was made with Python's `hmac`.
const VENDORS: [Vendor; 11] = [
    // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    Vendor {
        name: "GitHub",
        recipe: r#"{ algorithm: hmac-sha256, signature: { header: X-Hub-Signature-256, prefix: "sha256=", encoding: hex } }"#,
        secret: "It's a Secret to Everybody",
        headers: &[(
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )],
        body: "Hello, World!",
        at: THEN,
    },
    // The vector that the libraries of https://github.com/standard-webhooks/standard-webhooks share.
    Vendor {
        name: "Standard Webhooks",
        recipe: r#"
            algorithm: hmac-sha256
            secret: { encoding: base64, strip_prefix: whsec_, bytes: [24, 64] }
            vars: { id: { header: webhook-id }, ts: { header: webhook-timestamp } }
            signed: "{id}.{ts}.{body}"
            signature: { header: webhook-signature, split: " ", prefix: "v1,", encoding: base64 }
            timestamp: { var: ts, tolerance: 5m }
        "#,
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,old v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        body: r#"{"test": 2432232314}"#,
        at: "2021-02-25T15:02:10Z",
    },
    // https://developer.zendesk.com/documentation/event-connectors/webhooks/verifying/
    Vendor {
        name: "Zendesk",
        recipe: r#"
            algorithm: hmac-sha256
            vars: { ts: { header: X-Zendesk-Webhook-Signature-Timestamp } }
            signed: "{body}{ts}"
            signature: { header: X-Zendesk-Webhook-Signature, encoding: base64 }
            timestamp: { var: ts, unit: rfc3339, tolerance: 5m }
        "#,
        secret: "HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=",
        headers: &[
            ("x-zendesk-webhook-signature-timestamp", "2021-07-25T10:00:00Z"),
            ("x-zendesk-webhook-signature", "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw="),
        ],
        body: r#"{"say": "hello"}"#,
        at: "2021-07-25T10:00:00Z",
    },
    Vendor {
        name: "Stripe",
        recipe: r#"
            algorithm: hmac-sha256
            vars: { ts: { header: Stripe-Signature, split: ",", prefix: "t=" } }
            signed: "{ts}.{body}"
            signature: { header: Stripe-Signature, split: ",", prefix: "v1=", encoding: hex }
            timestamp: { var: ts, tolerance: 300s }
        "#,
        secret: "whsec_test",
        headers: &[(
            "stripe-signature",
            "t=1700000000,v1=00,v1=39c77d4f99a807ca4ab32e3c1fc455424bc1cda39e5c93618d15f5f6b7abdf94,v0=11",
        )],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "Slack",
        recipe: r#"
            algorithm: hmac-sha256
            vars: { ts: { header: X-Slack-Request-Timestamp } }
            signed: "v0:{ts}:{body}"
            signature: { header: X-Slack-Signature, prefix: "v0=", encoding: hex }
            timestamp: { var: ts, tolerance: 5m }
        "#,
        secret: "sec",
        headers: &[
            ("x-slack-request-timestamp", "1700000000"),
            ("x-slack-signature", "v0=5ea63f3b11f4ea1266e78dc41a596d49319c36b9e3f88a1debfa6c01c82b24ad"),
        ],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "HubSpot v3",
        recipe: r#"
            algorithm: hmac-sha256
            vars: { ts: { header: X-HubSpot-Request-Timestamp } }
            signed: "{method}{url_decoded}{body}{ts}"
            signature: { header: X-HubSpot-Signature-v3, encoding: base64 }
            timestamp: { var: ts, unit: milliseconds, tolerance: 5m }
        "#,
        secret: "sec",
        headers: &[
            ("x-hubspot-request-timestamp", "1700000000000"),
            ("x-hubspot-signature-v3", "Dh2hkRb1mMRI8GLn+8pDTFeUboC0dcwFZD/2hi5mDlU="),
        ],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "HubSpot v1",
        recipe: r#"{ algorithm: sha256, signed: "{secret}{body}", signature: { header: X-HubSpot-Signature, encoding: hex } }"#,
        secret: "sec",
        headers: &[(
            "x-hubspot-signature",
            "f43c3df308e63e7ffdc5ddd853931408c5b7ef480e263a1f15db627f6caf5bbe",
        )],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "SHA-1",
        recipe: r#"{ algorithm: hmac-sha1, signature: { header: X-Hub-Signature, prefix: "sha1=", encoding: hex } }"#,
        secret: "sec",
        headers: &[("x-hub-signature", "sha1=c5d327e997124acd268d2eab2e1028260cd34c2a")],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "SHA-512",
        recipe: r#"{ algorithm: hmac-sha512, signature: { header: X-Signature, encoding: base64 } }"#,
        secret: "sec",
        headers: &[(
            "x-signature",
            "YKRvBmUzGvMRWuDfxp+G9BloHwVhh/E3UrqJO7aQz16Wco8sGZBEQcVOZ7YIO37FRlSeaYd0uyyx9ytwZkS0gA==",
        )],
        body: BODY,
        at: THEN,
    },
    Vendor {
        name: "hexadecimal secret",
        recipe: r#"{ algorithm: hmac-sha1, secret: { encoding: hex }, signature: { header: X-Hub-Signature, encoding: hex } }"#,
        secret: "736563",
        headers: &[("x-hub-signature", "c5d327e997124acd268d2eab2e1028260cd34c2a")],
        body: BODY,
        at: THEN,
    },
    // https://docs.gitlab.com/user/project/integrations/webhooks/
    Vendor {
        name: "GitLab",
        recipe: "{ algorithm: token, signature: { header: X-Gitlab-Token } }",
        secret: "a-token",
        headers: &[("x-gitlab-token", "a-token")],
        body: BODY,
        at: THEN,
    },
];

impl Vendor {
    fn recipe(&self) -> Recipe {
        let recipe: Recipe = serde_saphyr::from_str(self.recipe).expect(self.name);
        recipe.check().expect(self.name);
        recipe
    }

    fn verifier(&self, secrets: &[&str]) -> Verifier {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        Verifier::new(self.recipe(), &secrets.iter().collect::<Vec<_>>()).expect(self.name)
    }

    fn request(&self) -> Inbound {
        let headers = self.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Inbound {
            method: "POST".to_owned(),
            uri: "/in/test?a=b%2Fc%3Ad".to_owned(),
            headers: headers.chain([("host".to_owned(), "hub.example".to_owned())]).collect(),
            body: self.body.into(),
        }
    }

    fn at(&self) -> Timestamp {
        self.at.parse().expect(self.name)
    }
}

#[test]
fn every_vendor_s_own_request_is_believed() {
    for vendor in &VENDORS {
        let verdict = vendor.verifier(&[vendor.secret]).verify(&vendor.request(), vendor.at());
        assert_eq!(verdict, Ok(()), "{}", vendor.name);
    }
}

#[test]
fn a_request_with_one_more_byte_is_not() {
    for vendor in VENDORS.iter().filter(|vendor| vendor.name != "GitLab") {
        let mut request = vendor.request();
        request.body = format!("{} ", vendor.body).into();
        let verdict = vendor.verifier(&[vendor.secret]).verify(&request, vendor.at());
        assert_eq!(verdict, Err(Unverified::Mismatch), "{}", vendor.name);
    }
}

#[test]
fn each_of_several_secrets_is_good_enough_and_no_other() {
    for vendor in &VENDORS {
        let other =
            if vendor.name == "hexadecimal secret" { "00" } else { "Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l" };
        let now = vendor.at();
        for secrets in [[vendor.secret, other], [other, vendor.secret]] {
            assert_eq!(vendor.verifier(&secrets).verify(&vendor.request(), now), Ok(()), "{}", vendor.name);
        }
        let verdict = vendor.verifier(&[other, other]).verify(&vendor.request(), now);
        assert_eq!(verdict, Err(Unverified::Mismatch), "{}", vendor.name);
    }
}

#[test]
fn without_any_one_of_its_headers_a_request_is_not_believed() {
    for vendor in &VENDORS {
        for (gone, _) in vendor.headers {
            let mut request = vendor.request();
            request.headers.retain(|(name, _)| name != gone);
            let verdict = vendor.verifier(&[vendor.secret]).verify(&request, vendor.at());
            assert_eq!(verdict, Err(Unverified::Missing((*gone).to_owned())), "{}", vendor.name);
        }
    }
}

#[test]
fn a_request_is_believed_for_five_minutes_and_not_a_second_longer() {
    let mut timed = 0;
    for vendor in &VENDORS {
        if vendor.recipe().timestamp.is_none() {
            continue;
        }
        timed += 1;
        let verifier = vendor.verifier(&[vendor.secret]);
        let verdict = |seconds: i64| {
            verifier.verify(&vendor.request(), vendor.at() + SignedDuration::from_secs(seconds))
        };
        assert_eq!((verdict(300), verdict(-300)), (Ok(()), Ok(())), "{}", vendor.name);
        let tolerance = Duration::from_secs(300);
        assert_eq!(verdict(301), Err(Unverified::Old(tolerance)), "{}", vendor.name);
        assert_eq!(verdict(-301), Err(Unverified::Future(tolerance)), "{}", vendor.name);
    }
    assert_eq!(timed, 5);
}

#[test]
fn a_recipe_that_proves_nothing_is_refused() {
    let wrong = [
        ("{ algorithm: sha256, signature: { header: x, encoding: hex } }", "proves nothing"),
        ("{ algorithm: hmac-sha256, signature: { header: x } }", "encoding"),
        (
            "{ algorithm: hmac-sha256, signed: \"{ts}{body}\", signature: { header: x, encoding: hex } }",
            "{ts}",
        ),
        (
            "{ algorithm: hmac-sha256, vars: { ts: { header: t } }, timestamp: { var: ts, tolerance: 5m }, \
             signature: { header: x, encoding: hex } }",
            "must be signed",
        ),
        (
            "{ algorithm: hmac-sha256, vars: { body: { header: t } }, signature: { header: x, encoding: hex } }",
            "has its meaning already",
        ),
        ("{ algorithm: token, secret: { encoding: base64 }, signature: { header: x } }", "no `encoding`"),
        ("{ algorithm: token, signature: { header: x, encoding: hex } }", "no `encoding`"),
    ];
    for (recipe, part) in wrong {
        let parsed: Recipe = serde_saphyr::from_str(recipe).expect(recipe);
        let error = parsed.check().expect_err(recipe).to_string();
        assert!(error.contains(part), "{error}");
    }
    for recipe in [
        "{ algorithm: md5, signature: { header: x, encoding: hex } }",
        "{ algorithm: hmac-sha256, tolerence: 5m, signature: { header: x, encoding: hex } }",
        "{ algorithm: hmac-sha256, signed: \"{body\", signature: { header: x, encoding: hex } }",
        "{ algorithm: hmac-sha256, signature: { header: \"x y\", encoding: hex } }",
    ] {
        assert!(serde_saphyr::from_str::<Recipe>(recipe).is_err(), "{recipe}");
    }
}

#[test]
fn an_empty_secret_lets_nobody_in() {
    for vendor in &VENDORS {
        assert!(Verifier::new(vendor.recipe(), &[&"".into()]).is_err(), "{}", vendor.name);
        assert!(Verifier::new(vendor.recipe(), &[]).is_err(), "{}", vendor.name);
    }
    for secret in ["", " ", "whsec_", "whsec_?"] {
        assert!(StandardSigner::new(&secret.into()).is_err(), "{secret:?}");
    }
}

#[test]
fn a_standard_webhooks_secret_stands_for_24_to_64_bytes() {
    let standard = VENDORS.iter().find(|vendor| vendor.name == "Standard Webhooks").expect("it is there");
    let whsec = |bytes| format!("whsec_{}", STANDARD.encode(vec![7u8; bytes]));
    for (bytes, right) in [(1, false), (23, false), (24, true), (64, true), (65, false)] {
        let expected = if right { None } else { Some(SecretError::Length(bytes, 24, 64)) };
        assert_eq!(StandardSigner::new(&whsec(bytes).into()).err(), expected);
        assert_eq!(Verifier::new(standard.recipe(), &[&whsec(bytes).into()]).err(), expected);
    }
    let both = format!("{} {}", whsec(32), whsec(5));
    assert_eq!(
        StandardSigner::new(&both.into()).err(),
        Some(SecretError::Length(5, 24, 64)),
        "each one counts"
    );
}

proptest! {
    #[test]
    fn what_a_recipe_signs_it_believes_and_nothing_else(
        body in prop::collection::vec(any::<u8>(), 0..200),
        flip in any::<prop::sample::Index>(),
        vendor in 0..VENDORS.len() - 1,
    ) {
        let vendor = &VENDORS[vendor];
        let verifier = vendor.verifier(&[vendor.secret]);
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        let time = match vendor.name {
            "Zendesk" => now.to_string(),
            "HubSpot v3" => now.as_millisecond().to_string(),
            _ => now.as_second().to_string(),
        };
        let mut request = vendor.request();
        let url = format!("https://hub.example{}", request.uri);
        let headers = verifier.sign("POST", &url, &body, &[("ts", &time), ("id", "m")]).expect("a signature");
        request.headers = headers;
        request.headers.push(("host".to_owned(), "hub.example".to_owned()));
        request.body = body.clone().into();
        prop_assert_eq!(verifier.verify(&request, now), Ok(()));
        if !body.is_empty() {
            let mut changed = body.clone();
            changed[flip.index(body.len())] ^= 1;
            request.body = changed.into();
            prop_assert_eq!(verifier.verify(&request, now), Err(Unverified::Mismatch));
        }
    }

    #[test]
    fn headers_of_any_shape_are_refused_and_harm_nothing(
        values in prop::collection::vec("[ -~]{0,60}|v1=[0-9a-f,=]{0,80}|t=[0-9]{0,20},v1=[0-9a-f]{64}", 2),
        vendor in 0..VENDORS.len(),
    ) {
        let vendor = &VENDORS[vendor];
        let mut request = vendor.request();
        for (n, (name, _)) in vendor.headers.iter().enumerate() {
            let header = request.headers.iter_mut().find(|(header, _)| header == name).expect("the header");
            header.1 = values[n % 2].clone();
        }
        prop_assert!(vendor.verifier(&[vendor.secret]).verify(&request, vendor.at()).is_err());
    }

    #[test]
    fn one_right_signature_among_others_is_enough(before in "(v1,[A-Za-z0-9+/=]{0,44} ){0,5}", after in "( v[0-9]a?,[!-~]{0,44}){0,5}") {
        let vendor = VENDORS.iter().find(|vendor| vendor.name == "Standard Webhooks").expect("it is there");
        let mut request = vendor.request();
        let header = request.headers.iter_mut().find(|(name, _)| name == "webhook-signature").expect("the header");
        header.1 = format!("{before}v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE={after}");
        prop_assert_eq!(vendor.verifier(&[vendor.secret]).verify(&request, vendor.at()), Ok(()));
    }
}
