//! The rules of SPIFFE-ID, each test named after its section.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<SpiffeId, IdError> {
    SpiffeId::parse(text)
}

#[test]
fn spiffe_id_2_scheme_trust_domain_and_path() {
    let id = parse("spiffe://shop.test/ns/shop/sa/orders").unwrap();
    assert_eq!(id.trust_domain().as_str(), "shop.test");
    assert_eq!(id.path().as_str(), "/ns/shop/sa/orders");
    assert_eq!(id.path().segments().collect::<Vec<_>>(), ["ns", "shop", "sa", "orders"]);
    assert_eq!(id.to_string(), "spiffe://shop.test/ns/shop/sa/orders");
    let domain = parse("spiffe://shop.test").unwrap();
    assert!(domain.path().is_root() && domain.path().segments().next().is_none());
    assert_eq!(domain, TrustDomain::new("shop.test").unwrap().id());
    assert_eq!(parse("").unwrap_err(), IdError::Empty);
    for text in [
        "shop.test/a",
        "://shop.test/a",
        "spiff://a/b",
        "spiffe:/a/b",
        "spiffe",
        " spiffe://a/b",
        "http://a/b",
    ] {
        assert_eq!(parse(text).unwrap_err(), IdError::WrongScheme, "{text}");
    }
}

#[test]
fn spiffe_id_2_no_query_and_no_fragment() {
    for (text, error) in [
        ("spiffe://shop.test/a?b=c", IdError::PathCharacter('?')),
        ("spiffe://shop.test/a?", IdError::PathCharacter('?')),
        ("spiffe://shop.test/a#b", IdError::PathCharacter('#')),
        ("spiffe://shop.test?b", IdError::TrustDomainCharacter('?')),
        ("spiffe://shop.test#b", IdError::TrustDomainCharacter('#')),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn spiffe_id_2_1_the_trust_domain_is_not_empty() {
    for text in ["spiffe://", "spiffe:///a"] {
        assert_eq!(parse(text).unwrap_err(), IdError::MissingTrustDomain, "{text}");
    }
}

#[test]
fn spiffe_id_2_1_no_user_and_no_port() {
    for (text, char) in [
        ("spiffe://user@shop.test/a", '@'),
        ("spiffe://user:secret@shop.test/a", ':'),
        ("spiffe://shop.test:8443/a", ':'),
        ("spiffe://shop.test:/a", ':'),
        ("spiffe://[::1]/a", '['),
    ] {
        assert_eq!(parse(text).unwrap_err(), IdError::TrustDomainCharacter(char), "{text}");
    }
}

#[test]
fn spiffe_id_2_1_characters_of_a_trust_domain() {
    for name in ["shop.test", "a", "1.2.3.4", "a_b-c.d", "-", "..", "_"] {
        assert_eq!(TrustDomain::new(name).unwrap().as_str(), name);
    }
    for (name, char) in [
        ("sh%6fp", '%'),
        ("shöp", 'ö'),
        ("a b", ' '),
        ("a\0", '\0'),
        ("a/b", '/'),
        ("a*", '*'),
    ] {
        assert_eq!(TrustDomain::new(name).unwrap_err(), IdError::TrustDomainCharacter(char));
    }
}

#[test]
fn spiffe_id_2_2_characters_of_a_path() {
    assert!(parse("spiffe://shop.test/aZ09.-_/...").is_ok());
    for (text, char) in [
        ("spiffe://shop.test/a%2Fb", '%'),
        ("spiffe://shop.test/a b", ' '),
        ("spiffe://shop.test/ä", 'ä'),
        ("spiffe://shop.test/a:b", ':'),
        ("spiffe://shop.test/a\\b", '\\'),
        ("spiffe://shop.test/a*", '*'),
        ("spiffe://shop.test/a\n", '\n'),
    ] {
        assert_eq!(parse(text).unwrap_err(), IdError::PathCharacter(char), "{text}");
    }
}

#[test]
fn spiffe_id_2_2_no_empty_and_no_relative_segment() {
    for (text, error) in [
        ("spiffe://shop.test//a", IdError::EmptySegment),
        ("spiffe://shop.test/a//b", IdError::EmptySegment),
        ("spiffe://shop.test/./a", IdError::RelativeSegment(".")),
        ("spiffe://shop.test/a/..", IdError::RelativeSegment("..")),
        ("spiffe://shop.test/a/../b", IdError::RelativeSegment("..")),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn spiffe_id_2_2_no_trailing_slash() {
    for text in ["spiffe://shop.test/", "spiffe://shop.test/a/", "spiffe://shop.test//"] {
        assert_eq!(parse(text).unwrap_err(), IdError::TrailingSlash, "{text}");
    }
    assert_eq!(Path::new("a").unwrap_err(), IdError::NoLeadingSlash);
}

#[test]
fn spiffe_id_2_2_a_segment_from_elsewhere_stays_one() {
    let path = Path::from_segments(["ns", "shop", "sa", "orders"]).unwrap();
    assert_eq!(path.as_str(), "/ns/shop/sa/orders");
    assert!(Path::from_segments([]).unwrap().is_root());
    for (segment, error) in [
        ("a/sa/admin", IdError::PathCharacter('/')),
        ("", IdError::EmptySegment),
        ("..", IdError::RelativeSegment("..")),
        ("a%2Fb", IdError::PathCharacter('%')),
    ] {
        assert_eq!(Path::from_segments(["ns", segment]).unwrap_err(), error, "{segment}");
    }
}

#[test]
fn spiffe_id_2_3_lengths() {
    let name = "a".repeat(255);
    assert!(TrustDomain::new(&name).is_ok());
    assert_eq!(
        TrustDomain::new(&format!("{name}a")).unwrap_err(),
        IdError::TrustDomainTooLong(256)
    );
    let longest = format!("spiffe://{name}/{}", "b".repeat(2048 - 255 - 10));
    assert_eq!(longest.len(), 2048);
    assert_eq!(parse(&longest).unwrap().to_string(), longest);
    assert_eq!(parse(&format!("{longest}b")).unwrap_err(), IdError::TooLong(2049));
    // A path alone cannot know how long its trust domain will be.
    let path = Path::new(&format!("/{}", "b".repeat(2040))).unwrap();
    assert_eq!(
        SpiffeId::new(TrustDomain::new("shop.test").unwrap(), path),
        Err(IdError::TooLong(2059))
    );
    assert!(Path::new(&format!("/{}", "b".repeat(2048))).is_err());
}

#[test]
fn spiffe_id_2_4_scheme_and_trust_domain_in_any_case_the_path_as_it_is() {
    let id = parse("SPIFFE://Shop.Test/Orders").unwrap();
    assert_eq!(id.to_string(), "spiffe://shop.test/Orders");
    assert_eq!(id, parse("spiffe://shop.test/Orders").unwrap());
    assert_ne!(id, parse("spiffe://shop.test/orders").unwrap());
}

#[test]
fn a_path_is_under_another_by_whole_segments() {
    let path = |text| Path::new(text).unwrap();
    for (below, above) in [
        ("/ns/shop/sa/a", "/ns/shop"),
        ("/ns/shop", "/ns/shop"),
        ("/a", ""),
        ("", ""),
    ] {
        assert!(path(below).is_under(&path(above)), "{below} {above}");
    }
    for (below, above) in [
        ("/ns/shop-evil/sa/a", "/ns/shop"),
        ("/ns", "/ns/shop"),
        ("/x/ns/shop", "/ns/shop"),
        ("", "/ns"),
        ("/NS/shop", "/ns"),
    ] {
        assert!(!path(below).is_under(&path(above)), "{below} {above}");
    }
}

#[test]
fn ids_are_text_in_files() {
    let id: SpiffeId = serde_json::from_str("\"spiffe://shop.test/a\"").unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"spiffe://shop.test/a\"");
    let error = serde_json::from_str::<SpiffeId>("\"spiffe://shop.test/a/\"").unwrap_err();
    assert!(error.to_string().contains("ends with a slash"), "{error}");
    assert!(serde_json::from_str::<TrustDomain>("\"a:1\"").is_err());
    assert!("/a".parse::<Path>().is_ok());
}

/// What the standard's grammar generates.
fn valid() -> impl Strategy<Value = String> {
    let segment = "[a-zA-Z0-9._-]{1,20}".prop_filter("not relative", |it| it != "." && it != "..");
    ("[a-z0-9._-]{1,40}", prop::collection::vec(segment, 0..6)).prop_map(|(domain, segments)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        format!("spiffe://{domain}{path}")
    })
}

proptest! {
    #[test]
    fn what_the_grammar_generates_is_read_and_written_alike(text in valid()) {
        prop_assert_eq!(parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn what_is_read_follows_the_grammar(text in "(?i:spiffe)://[a-zA-Z0-9._:@%/?#*-]{0,30}") {
        if let Ok(id) = parse(&text) {
            let written = id.to_string();
            prop_assert_eq!(written.len(), text.len());
            prop_assert!(written.eq_ignore_ascii_case(&text));
            prop_assert_eq!(parse(&written).unwrap(), id);
            prop_assert!(!written.contains(['%', '?', '#', '@', '*']) && !written.ends_with('/'));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(&text);
        let _ = Path::new(&text);
        let _ = TrustDomain::new(&text);
    }

    #[test]
    fn a_longer_path_is_under_a_shorter_one_and_not_the_other_way_round(text in valid(), more in "[a-z]{1,9}") {
        let path = parse(&text).unwrap().path().clone();
        let longer = Path::new(&format!("{path}/{more}")).unwrap();
        prop_assert!(longer.is_under(&path) && !path.is_under(&longer));
        if !path.is_root() {
            let sibling = Path::new(&format!("{path}{more}")).unwrap();
            prop_assert!(!sibling.is_under(&path));
        }
    }
}
