//! Resource quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! Source: apimachinery `pkg/api/resource`: the grammar and the canonical form.

/// A quantity in billionths, the smallest unit that Kubernetes keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i128); 10] = [
    ("E", NANO * 1_000_000_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("G", NANO * 1_000_000_000),
    ("M", NANO * 1_000_000),
    ("k", NANO * 1_000),
    ("", NANO),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];
const BINARY: [(&str, i128); 6] = [
    ("Ei", NANO << 60),
    ("Pi", NANO << 50),
    ("Ti", NANO << 40),
    ("Gi", NANO << 30),
    ("Mi", NANO << 20),
    ("Ki", NANO << 10),
];

impl Quantity {
    /// The whole of it, in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// Whole units, rounded up; what is negative counts as nothing.
    pub fn value(self) -> u64 {
        self.in_units_of(Quantity { nanos: NANO })
    }

    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0 };

    /// So many.
    pub fn whole(number: usize) -> Quantity {
        Quantity {
            nanos: i128::try_from(number).unwrap_or(i128::MAX).saturating_mul(NANO),
        }
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, factor: u32) -> Quantity {
        Quantity {
            nanos: self.nanos.saturating_mul(factor.into()),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Quantity) -> Quantity {
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    /// How many times `other` it is.
    pub fn ratio(self, other: Quantity) -> f64 {
        self.nanos as f64 / other.nanos as f64
    }

    /// As text, with suffixes of powers of 1024 or of 1000.
    pub fn text(self, binary: bool) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let exact = |(_, unit): &&(&str, i128)| self.nanos % unit == 0;
        let units = if binary && self.nanos.abs() >= NANO << 10 {
            BINARY.iter().chain(&DECIMAL[6..])
        } else {
            BINARY[6..].iter().chain(&DECIMAL)
        };
        // A billionth divides every quantity.
        let (suffix, unit) = units.into_iter().find(exact).unwrap_or(&("n", 1));
        format!("{}{suffix}", self.nanos / unit)
    }

    /// How many of `unit` it is, rounded up; what is negative, or counted in nothing, counts as nothing.
    pub fn in_units_of(self, unit: Quantity) -> u64 {
        if self.nanos <= 0 || unit.nanos <= 0 {
            return 0;
        }
        let rest = i128::from(self.nanos % unit.nanos != 0);
        u64::try_from(self.nanos / unit.nanos + rest).unwrap_or(u64::MAX)
    }
}

/// Digits looked at; more cannot matter within the range.
const MAX_DIGITS: usize = 60;

/// Reads a quantity; `None` for what is none. Beyond ±2⁶³ it is capped, below a billionth rounded up.
pub fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || number.len() > MAX_DIGITS {
        return None;
    }
    let (factor, exponent) = scale(suffix)?;
    let nanos = scaled(whole, fraction, factor, exponent);
    Some(Quantity {
        nanos: if negative { -nanos } else { nanos },
    })
}

/// A suffix as a factor (in billionths) and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    if let Some((_, factor)) = DECIMAL.iter().chain(&BINARY).find(|(known, _)| *known == suffix) {
        return Some((*factor, 0));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.chars().all(|c| c.is_ascii_digit());
    plain
        .then(|| exponent.parse().ok())
        .flatten()
        .map(|exponent| (NANO, exponent))
}

/// `whole.fraction × factor × 10^exponent`, capped and rounded up.
fn scaled(whole: &str, fraction: &str, factor: i128, exponent: i32) -> i128 {
    const CAP: i128 = (i64::MAX as i128) * NANO;
    let digits: String = [whole, fraction].concat();
    let mut value: i128 = 0;
    for digit in digits.bytes() {
        value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    }
    let mut value = value.saturating_mul(factor);
    let power = i64::from(exponent) - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let steps = power.unsigned_abs().min(80);
    for _ in 0..steps {
        value = if power > 0 {
            value.saturating_mul(10)
        } else {
            value / 10 + i128::from(value % 10 != 0)
        };
    }
    value.min(CAP)
}

/// The canonical form: no fraction, the largest suffix of the same family that allows that.
/// `None` for what is no quantity, or is written with an exponent (kept as written).
pub fn canonical(text: &str) -> Option<String> {
    let quantity = parse(text)?;
    if text.contains(['e', 'E']) && !text.ends_with(['E', 'i']) {
        return None;
    }
    Some(quantity.text(text.ends_with('i')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grammar() {
        for good in ["1", "100m", "1.5Gi", "1e3", "-2k", "+.5", "1E-3", "12E", "5Ei", "3."] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["", "m", "1x", "1.2.3", "e3", "1e", "1 Gi", "1Kim", "--1", "."] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("64Mi", "64Mi"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("1500", "1500"),
            ("2000", "2k"),
            ("0", "0"),
            ("-500m", "-500m"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(canonical("1e3"), None);
    }

    #[test]
    fn values_are_rounded_up() {
        for (text, unit, expected) in [
            ("64Mi", "1", 64 << 20),
            ("500m", "1", 1),
            ("500m", "1m", 500),
            ("1.5Gi", "1Mi", 1536),
            ("1k", "1Ki", 1),
            ("-1", "1", 0),
            ("1", "0", 0),
        ] {
            let unit = parse(unit).unwrap();
            assert_eq!(parse(text).unwrap().in_units_of(unit), expected, "{text}");
        }
        assert_eq!(parse("2500m").unwrap().value(), 3);
    }

    #[test]
    fn order() {
        assert!(parse("1") > parse("999m"));
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert!(parse("1G") < parse("1Gi"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-+0-9.eEKMGTPimnuk]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn canonical_keeps_the_value(text in "-?[0-9]{1,12}(\\.[0-9]{1,6})?(m|k|M|G|Ki|Mi|Gi|)") {
            let canonical = canonical(&text).expect("canonical");
            prop_assert_eq!(parse(&canonical), parse(&text), "{}", canonical);
        }
    }
}
