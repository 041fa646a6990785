//! Forms of texts: what the OS's modelled types take, and what of it cannot work.
//!
//! Source: bottlerocket-settings-sdk, `bottlerocket-settings-models/modeled-types`.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use url::{Host, Url};

use super::certificate;

/// A yes or no about a text.
type Test = fn(&str) -> bool;

/// A form that a text has to have.
pub(super) struct Form {
    /// What it is, with its article.
    pub(super) expected: &'static str,
    /// Whether the OS takes a text.
    pub(super) taken: Test,
    /// What else must hold for a text to work, with what is said if it does not.
    pub(super) works: Option<(Test, &'static str)>,
}

const fn form(expected: &'static str, taken: Test) -> Form {
    Form { expected, taken, works: None }
}

impl Form {
    const fn works(self, test: Test, otherwise: &'static str) -> Self {
        Self { works: Some((test, otherwise)), ..self }
    }
}

pub(super) const TEXT: Form = form("a string", |_| true);
pub(super) const LINE: Form = form("a string of one line", is_line);
pub(super) const BASE64: Form = form("base64 (standard alphabet, padded)", is_base64);
pub(super) const PEM: Form = form("base64 (standard alphabet, padded) of PEM", is_base64)
    .works(certificate::is_pem, "what it wraps is not whole PEM blocks");
pub(super) const CERTIFICATES: Form = form(
    "base64 (standard alphabet, padded) of certificates in PEM, or nothing to remove the bundle",
    |text| text.trim().is_empty() || (is_base64(text) && certificate::is_bundle(text)),
);
pub(super) const URL: Form = form("a URL", is_url)
    .works(|text| !text.contains("://") || Url::parse(text).is_ok(), "it has ://, but is no URL");
pub(super) const WEB_URL: Form = form("a URL", is_url).works(
    |text| is_url_of(text, &["https", "http"]),
    "it is no URL with https:// or http://, which is needed here",
);
pub(super) const API_SERVER: Form = form("a URL", is_url).works(
    |text| is_url_of(text, &["https"]),
    "it is no URL with https://, which a Kubernetes API server needs",
);
pub(super) const IMAGE: Form = form("a container image's name", is_url).works(
    |text| !text.contains("://"),
    "a container image's name has no scheme; the image would not be found",
);
pub(super) const IP: Form =
    form("an IP address without a prefix length", |text| text.parse::<IpAddr>().is_ok());
pub(super) const HOSTNAME: Form =
    form("a host name in lower case (a-z, 0-9, hyphens, up to 63 per part)", is_hostname);
pub(super) const DOMAIN: Form = form("a domain name that does not begin with a dot", is_domain);
pub(super) const IDENTIFIER: Form =
    form("a name of at most 76 ASCII letters, digits and hyphens", |text| {
        within(text, 0, 76) && all(text, "-")
    });
pub(super) const VERSION: Form = form("a version such as 1.26.1, or latest", is_version);

pub(super) const CLUSTER_NAME: Form = form(
    "a cluster's name (letters, digits, hyphens and underscores, up to 100; the first a letter or \
     digit)",
    |text| within(text, 1, 100) && all(text, "-_") && starts_alphanumeric(text),
);
pub(super) const LABEL_KEY: Form =
    form("a Kubernetes label's key (name, or domain/name, of up to 63 characters)", is_label_key);
pub(super) const LABEL_VALUE: Form = form(
    "a Kubernetes label's value (up to 63 letters, digits, dots, hyphens and underscores)",
    |text| text.is_empty() || is_label(text),
);
pub(super) const TAINT: Form = form("a taint as value:effect or :effect", is_taint)
    .works(has_known_effect, "the effect is none of NoSchedule, PreferNoSchedule, NoExecute");
pub(super) const BOOTSTRAP_TOKEN: Form =
    form("a bootstrap token (6 characters, a dot, 16 characters; a-z and 0-9)", is_token);
pub(super) const QUANTITY: Form = form("a quantity such as 500m, 1.5 or 512Mi", is_quantity);
pub(super) const THRESHOLD: Form =
    form("a quantity such as 512Mi, or a percentage from 0% to under 100%", is_threshold);
pub(super) const DURATION: Form =
    form("a duration such as 30s or 1h30m (h, m, s, ms)", |text| is_duration(text, &KUBELET_UNITS));
pub(super) const ECS_DURATION: Form =
    form("a duration such as 30s or 1h30m (h, m, s, ms, us, ns)", |text| {
        is_duration(text, &ECS_UNITS)
    });
pub(super) const CPU_SET: Form = form("a list of CPUs such as 0-3,8", is_cpu_set);
pub(super) const PERCENT: Form =
    form("a whole percentage from 0 to 100", |text| matches!(text.parse(), Ok(0..=100)));
pub(super) const BYTES: Form = form("a size in bytes such as \"64mb\"", |text| {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
});

pub(super) const ECS_ATTRIBUTE_KEY: Form =
    form("an ECS attribute's name (up to 128 letters, digits, and . _ / -)", |text| {
        within(text, 1, 128) && all(text, "._/-")
    });
pub(super) const ECS_ATTRIBUTE_VALUE: Form = form(
    "an ECS attribute's value (up to 128 letters, digits, and . @ : _ / \\ - and space)",
    |text| within(text, 1, 128) && all(text, ".@:_/\\- ") && text.trim() == text,
);

pub(super) const SYSCTL_KEY: Form = form(
    "a sysctl key (up to 128 letters, digits, and . / _ -, not beginning with . or /)",
    |text| {
        within(text, 1, 128)
            && all(text, "./_-")
            && !text.starts_with(['.', '/'])
            && !text.contains("..")
    },
);
pub(super) const MODULE: Form =
    form("a kernel module's name (up to 56 letters, digits, hyphens and underscores)", |text| {
        within(text, 0, 56) && all(text, "-_")
    });
pub(super) const BOOT_KEY: Form = form(
    "a kernel parameter (words of letters, digits, hyphens and underscores, joined by dots)",
    |text| text.split('.').all(|word| !word.is_empty() && all(word, "-_")),
);
pub(super) const BOOT_VALUE: Form =
    form("printable ASCII that does not hold both kinds of quotes", |text| {
        text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
            && !(text.contains('"') && text.contains('\''))
    })
    .works(
        |text| !text.contains('"'),
        "a double quote breaks the file that the OS renders boot settings into",
    );
pub(super) const HUGE_PAGE_SIZE: Form =
    form("a size of huge pages, a power of two such as 2Mi or 1Gi", |text| {
        text.strip_suffix(['i'])
            .and_then(|text| text.strip_suffix(['K', 'M', 'G', 'T']))
            .is_some_and(|number| number.parse::<u64>().is_ok_and(u64::is_power_of_two))
    });
pub(super) const HUGE_PAGE_COUNT: Form =
    form("a count of pages such as \"512\", or counts of nodes such as \"0:128,1:256\"", |text| {
        let pair = |text: &str| text.split_once(':').is_some_and(|(a, b)| digits(a) && digits(b));
        digits(text) || text.split(',').all(pair)
    });

const KUBELET_UNITS: [&str; 4] = ["h", "m", "s", "ms"];
const ECS_UNITS: [&str; 7] = ["h", "m", "s", "ms", "us", "µs", "ns"];

fn within(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len())
}

fn all(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}')
}

fn is_base64(text: &str) -> bool {
    STANDARD.decode(text).is_ok()
}

/// The OS also takes a URL without a scheme, as it would follow `http://`.
fn is_url(text: &str) -> bool {
    is_line(text) && (Url::parse(text).is_ok() || Url::parse(&format!("http://{text}")).is_ok())
}

fn is_url_of(text: &str, schemes: &[&str]) -> bool {
    Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()))
}

fn is_hostname(text: &str) -> bool {
    let part = |part: &str| {
        within(part, 1, 63)
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-')
    };
    within(text, 1, 253) && text.split('.').all(part)
}

fn is_domain(text: &str) -> bool {
    !text.starts_with('.') && matches!(Host::parse(text), Ok(Host::Domain(_)))
}

fn is_version(text: &str) -> bool {
    text == "latest" || Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
}

fn is_label(text: &str) -> bool {
    within(text, 1, 63)
        && all(text, "._-")
        && starts_alphanumeric(text)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => within(domain, 1, 253) && all(domain, ".-") && is_label(name),
        None => is_label(text),
    }
}

fn is_taint(text: &str) -> bool {
    text.split_once(':').is_some_and(|(value, effect)| {
        (value.is_empty() || is_label(value)) && within(effect, 1, 253) && all(effect, "")
    })
}

fn has_known_effect(text: &str) -> bool {
    let effect = text.rsplit(':').next();
    matches!(effect, Some("NoSchedule" | "PreferNoSchedule" | "NoExecute"))
}

fn is_token(text: &str) -> bool {
    let part = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    text.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let exponent =
        |suffix: &str| suffix.strip_prefix('e').is_some_and(|e| e.is_empty() || digits(e));
    let binary = suffix.strip_suffix('i').unwrap_or(suffix);
    !number.is_empty()
        && (matches!(suffix, "" | "n" | "u" | "m" | "k")
            || matches!(binary, "E" | "P" | "T" | "G" | "M" | "K")
            || exponent(suffix))
}

fn is_threshold(text: &str) -> bool {
    match text.strip_suffix('%') {
        Some(number) => number.parse().is_ok_and(|percent: f32| (0.0..100.0).contains(&percent)),
        None => is_quantity(text),
    }
}

/// Numbers with units that come in the order given, each at most once.
fn is_duration(text: &str, units: &[&str]) -> bool {
    let mut rest = text;
    let mut units = units.iter();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let whole = match number.split_once('.') {
            Some((whole, part)) => digits(whole) && digits(part),
            None => digits(number),
        };
        if !whole || !units.any(|known| *known == unit) {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

fn is_cpu_set(text: &str) -> bool {
    text.split(',').all(|range| match range.split_once('-') {
        Some((first, last)) => digits(first) && digits(last),
        None => digits(range),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(form: &Form, taken: &[&str], refused: &[&str]) {
        for text in taken {
            assert!((form.taken)(text), "{}: {text}", form.expected);
        }
        for text in refused {
            assert!(!(form.taken)(text), "{}: {text}", form.expected);
        }
    }

    #[test]
    fn network_forms() {
        verdicts(
            &URL,
            &["https://a.example/x", "a.example:6443", "10.0.0.1", ".internal", "a.example/b:1.0"],
            &["", "not a url", "http://a\nb", "a@"],
        );
        verdicts(&IP, &["10.0.0.10", "fd00::a"], &["10.0.0.0/24", "10.0.0", "dns.example"]);
        verdicts(
            &HOSTNAME,
            &["a", "node-1.rack.example"],
            &["", "-a", "a..b", "Node", "a_b", ".a"],
        );
        verdicts(&DOMAIN, &["cluster.local"], &["", ".local", "10.0.0.1", "a/b"]);
        verdicts(
            &VERSION,
            &["latest", "v1.2.3", "1.2.3-rc.1+x"],
            &["1.2", "v", "1.02.3", "1.2.3.4"],
        );
    }

    #[test]
    fn kubernetes_forms() {
        verdicts(&CLUSTER_NAME, &["a-b_c", "0"], &["", "-a", "a.b", &"a".repeat(101)]);
        verdicts(&LABEL_KEY, &["a", "b.example/a.b_c-d"], &["", "a.", "/a", "a/", "a/b/c"]);
        verdicts(&LABEL_VALUE, &["", "a.b"], &[".a", "a b", &"a".repeat(64)]);
        verdicts(
            &TAINT,
            &["a:NoSchedule", ":NoExecute", "a:Odd"],
            &["NoSchedule", "a:", "a-:X", ":"],
        );
        verdicts(
            &BOOTSTRAP_TOKEN,
            &["abcdef.0123456789abcdef"],
            &["abcdef", "ABCDEF.0123456789abcdef"],
        );
        verdicts(
            &QUANTITY,
            &["1", "1.5", "500m", "10Mi", "1G", "129e6", "-1k"],
            &["", "Mi", "12ki", "100Kii", "10%", "1000i", "100e23m"],
        );
        verdicts(&THRESHOLD, &["0%", "99.9%", "100Mi"], &["100%", "%", "x%", "-1%"]);
        verdicts(
            &DURATION,
            &["9ms", "1h2m3s10ms", "1.5h3.5m"],
            &["", "100", "1m2h", "9ns", "1..5s", "...3ms", "1s1s", "ten"],
        );
        verdicts(&ECS_DURATION, &["1ms1us1ns", "1s1µs1ns"], &["1ns1us", "1y"]);
        verdicts(&CPU_SET, &["0", "0-3,8"], &["", "1-", "-3", "1,", "1..2"]);
    }

    #[test]
    fn kernel_forms() {
        verdicts(
            &SYSCTL_KEY,
            &["net.ipv4.ip_forward", "net/ipv4"],
            &["", ".a", "/a", "a..b", "a b"],
        );
        verdicts(&MODULE, &["dm-crypt", "xt_XT"], &["../x", &"a".repeat(57)]);
        verdicts(&BOOT_KEY, &["console", "a.b-c_d"], &["", "a.", "a b", "á"]);
        verdicts(&BOOT_VALUE, &["", "ttyS0,115200n8", "a'b"], &["\n", "á", "'\""]);
        verdicts(&HUGE_PAGE_SIZE, &["2Mi", "1Gi"], &["2M", "3Mi", "0Mi", "Mi", "2"]);
        verdicts(&HUGE_PAGE_COUNT, &["0", "0:128,1:256"], &["", "0:", "0:1,", "-1", "0:1:2"]);
    }

    #[test]
    fn what_is_taken_but_cannot_work_is_known() {
        for (form, text) in [
            (&TAINT, "a:Odd"),
            (&API_SERVER, "10.0.0.1:6443"),
            (&WEB_URL, "updates.example"),
            (&WEB_URL, "https://"),
            (&IMAGE, "docker://registry.example/a"),
            (&BOOT_VALUE, "\"a"),
            (&PEM, "aGVsbG8="),
        ] {
            assert!((form.taken)(text), "{text}");
            assert!(form.works.is_some_and(|(works, _)| !works(text)), "{text}");
        }
    }
}
