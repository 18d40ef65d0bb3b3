//! Lists in pages.

/// Most items of a batch.
pub const MOST_ITEMS: usize = 1000;

/// The items after `token`, at most `size` (zero for all), and the token of the next page: empty for none.
pub fn page<'a, K: ToString + 'a, V: 'a, T>(
    items: impl Iterator<Item = (&'a K, &'a V)>,
    size: i32,
    token: &str,
    show: impl Fn(&V) -> T,
) -> (Vec<T>, String) {
    let size = usize::try_from(size).unwrap_or(0);
    let mut shown = Vec::new();
    let mut last = String::new();
    // The keys come in order, and the token is the last that was shown.
    for (key, value) in items.skip_while(|(key, _)| !token.is_empty() && key.to_string().as_str() <= token) {
        if size > 0 && shown.len() == size {
            return (shown, last);
        }
        shown.push(show(value));
        last = key.to_string();
    }
    (shown, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_together_are_the_whole() {
        let items: std::collections::BTreeMap<String, u8> =
            (0..7_u8).map(|number| (format!("{number}"), number)).collect();
        let mut token = String::new();
        let mut all = Vec::new();
        loop {
            let (part, next) = page(items.iter(), 3, &token, |number| *number);
            assert!(part.len() <= 3);
            all.extend(part);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(page(items.iter(), 0, "", |number| *number).0.len(), 7);
    }
}
