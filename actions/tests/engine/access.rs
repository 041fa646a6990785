//! What servers are shown, and what other hosts are not: credentials, proxies.

use std::sync::Arc;

use nibs_actions::http::{self, Proxies};
use nibs_actions::image::{Access, Credentials, Error, Fetch};
use nibs_job::Secret;

use super::support::*;
use super::web::{Answer, Web};

/// `me:hunter2`, RFC 7617.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn basic() -> Access {
    Access::Basic(Credentials { username: "me".into(), password: Secret::new("hunter2") })
}

fn fetch(url: url::Url, access: Access, proxies: Proxies) -> Result<Vec<u8>, Error> {
    let (runtime, ears) = (runtime(), Arc::<Ears>::default());
    let client = http::client(&http::Options { proxies, ..Default::default() }).unwrap();
    let result = drain(Fetch { client, access, ..plain(vec![url], &runtime, &ears) });
    let warnings = format!("{:?}", ears.warnings.lock().unwrap());
    assert!(!warnings.contains("hunter2"), "{warnings}");
    result
}

#[test]
fn credentials_are_shown_to_the_server() {
    for (access, expected) in
        [(basic(), BASIC), (Access::Bearer(Secret::new("t0ken")), "Bearer t0ken")]
    {
        let server = Web::start(move |request| match request.header("authorization") {
            Some(found) if found == expected => Answer::ok("image"),
            _ => Answer::status(401),
        });
        assert_eq!(fetch(server.url("/i"), access, Proxies::default()).unwrap(), b"image");
        let error = fetch(server.url("/i"), Access::Open, Proxies::default()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
}

#[test]
fn another_host_gets_the_request_but_not_the_credentials() {
    let other = Web::start(|_| Answer::ok("image"));
    let there = other.url("/elsewhere");
    let server =
        Web::start(move |_| Answer::status(302).with("Location", there.as_str().to_owned()));
    assert_eq!(fetch(server.url("/i"), basic(), Proxies::default()).unwrap(), b"image");
    assert_eq!(server.requests()[0].header("authorization"), Some(BASIC));
    assert_eq!(other.requests()[0].header("authorization"), None);
}

#[test]
fn a_proxy_is_asked_unless_the_host_is_excepted() {
    let proxy = Web::start(|_| Answer::ok("by proxy"));
    let mut url = proxy.url("/");
    url.set_username("me").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let proxies = |no: &str| Proxies { http: Some(url.clone()), https: None, no: no.into() };
    let image: url::Url = "http://images.invalid/os.img".parse().unwrap();
    assert_eq!(fetch(image.clone(), Access::Open, proxies("")).unwrap(), b"by proxy");
    let asked = &proxy.requests()[0];
    assert_eq!(asked.target, "http://images.invalid/os.img");
    assert_eq!(asked.header("proxy-authorization"), Some(BASIC));
    // The name has no address, so without the proxy there is no answer.
    fetch(image, Access::Open, proxies("invalid")).unwrap_err();
    let direct = Web::start(|_| Answer::ok("direct"));
    assert_eq!(fetch(direct.url("/i"), Access::Open, proxies("")).unwrap(), b"direct");
    assert_eq!(proxy.requests().len(), 1);
}
