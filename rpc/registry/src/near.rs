//! "Did you mean": the names closest to a mistyped one.

/// Names within two edits (three for long names) of `given`, or that hold it, nearest first, at most three.
pub(crate) fn nearest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    // A name longer than any method is no typing error, and would only cost time.
    if given.is_empty() || given.len() > 128 {
        return Vec::new();
    }
    let reach = if given.len() > 12 { 3 } else { 2 };
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let distance = strsim::damerau_levenshtein(given, name);
            let close = distance <= reach && distance < given.len().max(2);
            let holds = given.len() >= 4 && (name.contains(given) || given.contains(name));
            (close || holds).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_names_come_first_and_strangers_not_at_all() {
        let names = ["bdev_null_create", "bdev_null_delete", "bdev_malloc_create", "spdk_get_version"];
        assert_eq!(nearest("bdev_nul_craete", names.into_iter()), ["bdev_null_create"]);
        assert_eq!(nearest("get_version", names.into_iter()), ["spdk_get_version"]);
        assert!(nearest("zzz", names.into_iter()).is_empty());
        assert!(nearest("", names.into_iter()).is_empty());
        assert!(nearest(&"x".repeat(5000), names.into_iter()).is_empty());
    }
}
