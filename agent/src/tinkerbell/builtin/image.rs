//! Where an image comes from and how it is proven: the variables of ours beside an action's own.

use serde_json::Value;

use super::BadInput;
use super::variables::Variables;

/// Variables about an image, and the keys that they become.
const IMAGE: [(&str, &str); 9] = [
    ("IMG_SHA256", "image.sha256"),
    ("IMG_SHA512", "image.sha512"),
    ("IMG_UNCOMPRESSED_SHA256", "image.uncompressed-sha256"),
    ("IMG_UNCOMPRESSED_SHA512", "image.uncompressed-sha512"),
    ("IMG_BMAP", "image.bmap"),
    ("IMG_CA", "image.ca"),
    ("IMG_CA_FILE", "image.ca-file"),
    ("IMG_STALL_TIMEOUT", "image.stall-timeout"),
    ("VERIFY", "verify"),
];

/// Takes over what proves an image and how it is fetched.
pub(super) fn image(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    variables.copy(&IMAGE);
    if let Some(text) = variables.text("IMG_CONNECTIONS") {
        let number: u64 = text.parse().map_err(|_| {
            BadInput(format!("IMG_CONNECTIONS: expected a number from 1 to 8, found {text:?}"))
        })?;
        variables.put("IMG_CONNECTIONS", "image.connections", number);
    }
    proxies(variables, ["image.http-proxy", "image.https-proxy", "image.no-proxy"]);
    Ok(())
}

/// Takes over which proxies are asked, for HTTP and for HTTPS, and for what none is.
pub(super) fn proxies(variables: &mut Variables<'_>, [http, https, no]: [&'static str; 3]) {
    for (name, key) in [("HTTP_PROXY", http), ("HTTPS_PROXY", https)] {
        if let Some(proxy) = variables.text(name) {
            variables.put(name, key, proxy_url(proxy));
        }
    }
    variables.copy(&[("NO_PROXY", no)]);
}

/// A user and the password, from two variables that belong together.
pub(super) fn credentials(
    variables: &mut Variables<'_>,
    (username, user_key): (&'static str, &'static str),
    (password, password_key): (&'static str, &'static str),
) -> Result<(), BadInput> {
    match (variables.text(username), variables.text(password)) {
        (None, None) => Ok(()),
        (Some(user), Some(secret)) => {
            variables.put(username, user_key, user);
            variables.put(password, password_key, secret);
            Ok(())
        }
        (user, _) => {
            let missing = if user.is_none() { username } else { password };
            let message =
                format!("{missing} is missing: {username} and {password} belong together");
            Err(BadInput(message))
        }
    }
}

/// As Go takes a proxy: `host:port` is one that is spoken to over HTTP.
fn proxy_url(proxy: &str) -> Value {
    match proxy.contains("://") {
        true => proxy.into(),
        false => format!("http://{proxy}").into(),
    }
}
