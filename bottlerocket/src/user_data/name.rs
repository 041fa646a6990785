//! Keys as they are shown, and the known key nearest to an unknown one.

/// Longest part of a key that is shown or compared, in characters. The longest key of the OS has
/// 39; labels have up to 317.
const LONGEST: usize = 320;

/// Most known names that a message lists.
pub(super) const MOST_LISTED: usize = 12;

/// A key as TOML would have it: in quotes unless it is bare. Control characters are escaped, so a
/// key can not steer a terminal.
pub(super) fn shown(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let part: String = key.chars().take(LONGEST).collect();
    let more = if part.len() < key.len() { "…" } else { "" };
    if !part.is_empty() && part.chars().all(bare) {
        format!("{part}{more}")
    } else {
        format!("\"{}{more}\"", part.escape_debug())
    }
}

/// A dotted key.
pub(super) fn dotted(parts: &[String]) -> String {
    parts.join(".")
}

/// The known key that `key` may be a misspelling of.
pub(super) fn nearest<'k>(key: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if key.len() > LONGEST {
        return None;
    }
    let key = key.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&key, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// What to say after "no such key": the nearest known one, or all of them if they are few.
pub(super) fn advice(key: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(key, known.iter().copied()) {
        format!("; did you mean {near}?")
    } else if known.is_empty() || known.len() > MOST_LISTED {
        String::new()
    } else {
        format!("; known here: {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_toml_has_them() {
        assert_eq!(shown("cluster-name"), "cluster-name");
        assert_eq!(shown("example.com/role"), "\"example.com/role\"");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("a\u{1b}[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(shown(&"a".repeat(LONGEST + 1)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn the_nearest_key_is_near() {
        let known = ["host-containers", "hosts", "motd", "ntp"];
        assert_eq!(nearest("host_containers", known), Some("host-containers"));
        assert_eq!(nearest("Host-Container", known), Some("host-containers"));
        assert_eq!(nearest("mtod", known), Some("motd"));
        assert_eq!(nearest("kernel", known), None);
        assert_eq!(nearest(&"motd".repeat(1000), known), None);
    }
}
