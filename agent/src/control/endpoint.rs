//! The control plane's address: read leniently, kept in one form, shown without secrets.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The base URL of a control plane, such as `http://10.0.0.1:8080/` or `https://host/nibs/`.
///
/// `Display` and `Debug` leave user and password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why a text is no control plane's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading the control plane's URL {text:?}: {why}; expected such as http://10.0.0.1:8080")]
pub struct EndpointError {
    /// What was given, without user and password.
    text: String,
    why: String,
}

impl Endpoint {
    /// The URL of a resource below the base; each segment is escaped.
    pub(super) fn join<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The whole URL, user and password too, for a file that only the agent reads.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let wrong = |why: String| EndpointError { text: without_userinfo(text), why };
        if !text.contains("://") {
            return Err(wrong("it has no scheme".into()));
        }
        let mut url = Url::parse(text).map_err(|e| wrong(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("scheme {:?} is not http or https", url.scheme())));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("a base URL has no query and no fragment".into()));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

fn without_userinfo(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(without_userinfo(self.0.as_str()).trim_end_matches('/'))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn a_base_is_the_same_with_or_without_its_last_slash() {
        assert_eq!(endpoint("http://h:8080"), endpoint(" http://h:8080/ "));
        assert_eq!(endpoint("https://h/nibs"), endpoint("https://h/nibs/"));
        let url = endpoint("https://h/nibs").join(["v1", "machines", "52:54:00:12:34:56", "job"]);
        assert_eq!(url.as_str(), "https://h/nibs/v1/machines/52:54:00:12:34:56/job");
    }

    #[test]
    fn an_id_cannot_leave_its_segment() {
        let url = endpoint("http://h").join(["v1", "jobs", "../a?b#c", "events"]);
        assert_eq!(url.as_str(), "http://h/v1/jobs/..%2Fa%3Fb%23c/events");
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for (text, word) in [
            ("10.0.0.1:8080", "no scheme"),
            ("", "no scheme"),
            ("ftp://h", "not http or https"),
            ("http://", "empty host"),
            ("http://h:99999", "port"),
            ("http://h/?token=s3cret", "no query"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(error.contains("such as http://"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_used_but_not_shown() {
        let endpoint = endpoint("http://me:hunter2@h:1/");
        assert_eq!(format!("{endpoint} {endpoint:?}"), "http://h:1 http://h:1");
        assert!(endpoint.expose().contains("hunter2"));
        let error = "http://me:hunter2@h:1/?a=b".parse::<Endpoint>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
