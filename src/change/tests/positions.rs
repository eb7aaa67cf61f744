//! Positions: one text each.

use proptest::prelude::*;

use crate::change::{Chain, Digest, Epoch, Position, Version};
use crate::error::Kind;

proptest! {
    #[test]
    fn position_text_round_trip((epoch, version, chain) in any::<(u64, u64, u128)>()) {
        let position = Position {
            epoch: Epoch(epoch),
            version: Version(version),
            chain: Chain(chain),
            digest: Digest::default(),
        };
        prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    }

    #[test]
    fn position_has_one_text(text in "[0-9+]{1,3}\\.[0-9]{1,2}\\.[0-9a-fA-F]{31,33}|.{0,8}") {
        if let Ok(position) = text.parse::<Position>() {
            prop_assert_eq!(position.to_string(), text);
        }
    }
}

#[test]
fn position_reads_as_documented() {
    let text = "7.1042.0123456789abcdef0123456789abcdef";
    let position: Position = text.parse().unwrap();
    assert_eq!((position.epoch, position.version), (Epoch(7), Version(1042)));
    assert_eq!(position.chain, Chain(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
    assert_eq!(position.to_string(), text);
}

#[test]
fn position_text_that_is_none_is_refused() {
    const CHAIN: &str = "0123456789abcdef0123456789abcdef";
    let bad = [
        String::new(),
        ".".into(),
        "7.1042".into(),
        format!("7.1042.{CHAIN}."),
        format!("7.1042.{CHAIN}.7"),
        format!(".1042.{CHAIN}"),
        format!("7..{CHAIN}"),
        "7.1042.".into(),
        format!("07.1042.{CHAIN}"),
        format!("+7.1042.{CHAIN}"),
        format!("-7.1042.{CHAIN}"),
        format!(" 7.1042.{CHAIN}"),
        format!("7.1042.{CHAIN}\n"),
        format!("18446744073709551616.1.{CHAIN}"),
        format!("7.1042.{}", CHAIN.to_uppercase()),
        format!("7.1042.{}", &CHAIN[1..]),
        format!("7.1042.0{CHAIN}"),
        format!("7.1042.+{}", &CHAIN[1..]),
        format!("7.1042.{}g", &CHAIN[1..]),
        format!("\u{0667}.1042.{CHAIN}"),
    ];
    for text in bad {
        let error = text.parse::<Position>().expect_err(&text);
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, "POSITION_INVALID"));
        assert!(!error.hint_text().is_empty());
    }
}
