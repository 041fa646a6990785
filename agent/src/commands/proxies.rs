//! Proxies as the environment names them: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, or in lower
//! case, which goes first; the kernel command line has them in upper case.

use nibs_actions::http::Proxies;
use url::Url;

use super::Usage;

/// Reads them; `variable` looks one up, and `kernel` a parameter where there is no variable.
pub(super) fn read(
    variable: impl Fn(&str) -> Option<String>,
    kernel: impl Fn(&str) -> Option<String>,
) -> Result<Proxies, Usage> {
    let either = |name: &str| {
        let upper = name.to_ascii_uppercase();
        let value = variable(name).or_else(|| variable(&upper)).or_else(|| kernel(&upper))?;
        (!value.trim().is_empty()).then_some(value)
    };
    let proxy = |name: &str| either(name).map(|text| parse(name, &text)).transpose();
    Ok(Proxies {
        http: proxy("http_proxy")?,
        https: proxy("https_proxy")?,
        no: either("no_proxy").unwrap_or_default(),
    })
}

/// A proxy may be named without a scheme. Its text is not repeated: it may hold a password.
fn parse(name: &str, text: &str) -> Result<Url, Usage> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = with_scheme
        .parse::<Url>()
        .ok()
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.host_str().is_some());
    url.ok_or_else(|| {
        Usage(format!("reading the proxy {name}: expected http://HOST:PORT of a proxy"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(pairs: &[(&str, &str)], name: &str) -> Option<String> {
        pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn environment(variables: &[(&str, &str)]) -> Result<Proxies, Usage> {
        read(|name| look_up(variables, name), |_| None)
    }

    #[test]
    fn either_case_is_read_and_the_lower_goes_first() {
        let proxies = environment(&[
            ("HTTP_PROXY", "http://upper.example:1"),
            ("http_proxy", "lower.example:3128"),
            ("HTTPS_PROXY", "https://me:hunter2@upper.example:2"),
            ("no_proxy", "10.0.0.0/8"),
        ])
        .unwrap();
        assert_eq!(proxies.http.unwrap().as_str(), "http://lower.example:3128/");
        assert_eq!(proxies.https.unwrap().port(), Some(2));
        assert_eq!(proxies.no, "10.0.0.0/8");
    }

    #[test]
    fn none_is_the_default_and_nonsense_is_refused_without_showing_it() {
        let proxies = environment(&[("http_proxy", "")]).unwrap();
        assert!(proxies.http.is_none() && proxies.https.is_none() && proxies.no.is_empty());
        let error = environment(&[("HTTPS_PROXY", "ftp://me:hunter2@h")]).unwrap_err().to_string();
        assert!(error.contains("https_proxy") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_kernels_are_asked_for_what_the_environment_does_not_say() {
        let variables = [("HTTP_PROXY", "http://env:1"), ("no_proxy", "")];
        let kernel = [("HTTP_PROXY", "http://k:1"), ("HTTPS_PROXY", "k:2"), ("NO_PROXY", "lab")];
        let proxies =
            read(|name| look_up(&variables, name), |name| look_up(&kernel, name)).unwrap();
        assert_eq!(proxies.http.unwrap().as_str(), "http://env:1/");
        assert_eq!(proxies.https.unwrap().as_str(), "http://k:2/");
        assert_eq!(proxies.no, "", "an empty variable is one, too");
    }
}
