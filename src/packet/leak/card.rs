//! Payment card numbers.

use std::ops::Range;

use super::{Found, LeakKind};

/// Digits a card number may have, ISO/IEC 7812-1.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Card numbers in a stretch of text: digits in a row or in groups parted by single spaces or hyphens, that pass
/// the Luhn check and begin as an issuer's numbers do.
pub(crate) fn card_numbers(text: &str, range: Range<usize>, found: &mut Vec<Found>) {
    let bytes = &text.as_bytes()[..range.end.min(text.len())];
    let mut from = range.start;
    while let Some(row) = next_row(bytes, from) {
        from = row.end;
        in_row(bytes, range.start, row, found);
    }
}

/// The card numbers of a row of digits and what parts them; `first` is where the text begins.
fn in_row(bytes: &[u8], first: usize, row: Range<usize>, found: &mut Vec<Found>) {
    let mut at = row.start;
    while let Some(digit) = bytes[at..row.end].iter().position(u8::is_ascii_digit) {
        at += digit;
        let (digits, ends, groups) = digit_groups(bytes, at);
        let ends = &ends[..groups];
        let before = at
            .checked_sub(1)
            .filter(|before| *before >= first)
            .map(|before| bytes[before]);
        let begins = !before.is_some_and(part_of_a_word);
        let card = ends.iter().rev().find(|(end, count)| {
            let fraction = bytes.get(*end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            let alone = begins && !bytes.get(*end).copied().is_some_and(part_of_a_word) && !fraction;
            alone && CARD_DIGITS.contains(count) && issued(&digits[..*count]) && luhn(&digits[..*count])
        });
        at = match card {
            Some(&(end, count)) => {
                let value = digits[..count].iter().map(|digit| char::from(b'0' + digit)).collect();
                found.push(Found {
                    kind: LeakKind::CardNumber,
                    value,
                    account: None,
                    range: at..end,
                });
                end
            }
            None => at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        };
    }
}

fn part_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Digits that a card has at least.
const LEAST: usize = *CARD_DIGITS.start();

/// The next row of digits, spaces and hyphens that is long enough for a card. Every such row holds one of each [`LEAST`]
/// bytes that follow each other, so that no others need to be looked at.
fn next_row(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let within = |byte: &u8| matches!(byte, b'0'..=b'9' | b' ' | b'-');
    // It has one of these two as well, half as far away.
    let half = |at: usize| within(&bytes[at - LEAST / 2]) || bytes.get(at + LEAST / 2).is_some_and(within);
    let mut at = from + LEAST - 1;
    loop {
        while !(within(bytes.get(at)?) && half(at)) {
            at += LEAST;
        }
        let start = at - bytes[from..at].iter().rev().take_while(|byte| within(byte)).count();
        let end = at + bytes[at..].iter().take_while(|byte| within(byte)).count();
        if end - start >= LEAST {
            return Some(start..end);
        }
        at = end + LEAST;
    }
}

/// Digits that a card may have.
const MOST: usize = *CARD_DIGITS.end();

/// The digits that begin here, in groups parted by single spaces or hyphens, as many as a card has; where each
/// group ends, with the count of digits so far; and how many groups there are.
fn digit_groups(bytes: &[u8], start: usize) -> ([u8; MOST], [(usize, usize); MOST], usize) {
    let (mut digits, mut count) = ([0; MOST], 0);
    let (mut ends, mut groups) = ([(0, 0); MOST], 0);
    let mut at = start;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        if count == MOST {
            break;
        }
        digits[count] = digit - b'0';
        count += 1;
        at += 1;
        let next = bytes.get(at);
        if !next.is_some_and(u8::is_ascii_digit) {
            ends[groups] = (at, count);
            groups += 1;
            at += usize::from(matches!(next, Some(b' ' | b'-')));
        }
    }
    (digits, ends, groups)
}

/// The Luhn check of ISO/IEC 7812-1 Annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a number of this length begins as the payment networks publish for theirs. Without it, one in ten of all
/// timestamps and ids would be called a card.
fn issued(digits: &[u8]) -> bool {
    let prefix = |count: usize| {
        digits
            .iter()
            .take(count)
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 => digits[0] == 4,
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => digits[0] == 4 || matches!(two, 50..=69) || matches!(four, 2221..=2720 | 3528..=3589),
        17 | 18 => matches!(two, 50 | 56..=69),
        19 => digits[0] == 4 || matches!(two, 50 | 56..=69),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        card_numbers(text, 0..text.len(), &mut found);
        found.into_iter().map(|leak| leak.value).collect()
    }

    #[test]
    fn card_numbers_are_found_and_nothing_else() {
        for (text, expected) in [
            (r#"{"card":"4111 1111 1111 1111"}"#, &["4111111111111111"][..]),
            ("4111-1111-1111-1111", &["4111111111111111"]),
            ("card=4111111111111111&cvc=123", &["4111111111111111"]),
            ("378282246310005", &["378282246310005"]),
            (
                "5555555555554444 and 6011000990139424",
                &["5555555555554444", "6011000990139424"],
            ),
            ("on 2026-11-23 4111 1111 1111 1111 7 times", &["4111111111111111"]),
            ("4111 1111 1111 1112", &[]),
            ("x4111111111111111", &[]),
            ("4111111111111111.5", &[]),
            ("1795394166123", &[]),
            ("00000000000000000", &[]),
            ("4111  1111  1111  1111", &[]),
            ("", &[]),
        ] {
            assert_eq!(cards(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2048))]
        #[test]
        fn rows_that_are_passed_over_hold_no_card(
            text in r"([ a.x-]|[0-9]{1,7}|4111[ -]?1111[ -]?1111[ -]?1111|378282246310005|\PC){0,12}",
            first in 0_usize..8,
        ) {
            let first = (0..=first.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (mut found, mut all) = (Vec::new(), Vec::new());
            card_numbers(&text, first..text.len(), &mut found);
            // All of it taken for one row: nothing is passed over.
            in_row(text.as_bytes(), first, first..text.len(), &mut all);
            proptest::prop_assert_eq!(found, all);
        }
    }
}
