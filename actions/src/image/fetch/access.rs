//! What servers are shown to let us in.
//!
//! It goes into the `Authorization` header, which the client drops when it is redirected to
//! another host, port or scheme.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nibs_job::Secret;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder};
use url::Url;

use crate::http;

/// How long the server of a registry's tokens may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What servers are shown to let us in.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Nothing.
    #[default]
    Open,
    /// User and password.
    Basic(Credentials),
    /// A token.
    Bearer(Secret),
    /// A token that a registry's own server gives out.
    Registry(Arc<Tokens>),
}

/// A user and the password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl Access {
    pub(super) fn show(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Open => request,
            Self::Basic(credentials) => credentials.show(request),
            Self::Bearer(token) => request.bearer_auth(token.expose()),
            Self::Registry(tokens) => match &*tokens.lock() {
                Grant::None => request,
                Grant::Basic => tokens.as_user(request),
                Grant::Token(token) => request.bearer_auth(token.expose()),
            },
        }
    }
}

impl Credentials {
    fn show(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.username, Some(self.password.expose()))
    }
}

/// The tokens of one registry (OCI Distribution Specification; "Token Authentication
/// Specification" of the Distribution project).
#[derive(Debug)]
pub struct Tokens {
    credentials: Option<Credentials>,
    /// Whether the registry itself is spoken to without TLS.
    plain_http: bool,
    grant: Mutex<Grant>,
}

/// How the registry wants to be spoken to.
#[derive(Debug)]
enum Grant {
    None,
    Basic,
    Token(Secret),
}

/// Why there is no token.
#[derive(Debug)]
pub(super) enum TokenError {
    ForNow(String),
    Refused(String),
}

impl Tokens {
    pub(in crate::image) fn new(credentials: Option<Credentials>, plain_http: bool) -> Self {
        Self { credentials, plain_http, grant: Mutex::new(Grant::None) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Grant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn as_user(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(credentials) => credentials.show(request),
            None => request,
        }
    }

    /// Gets what a 401 asks for.
    pub(super) async fn renew(
        &self,
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<(), TokenError> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let grant = match challenges.filter_map(Challenge::parse).next() {
            Some(Challenge::Bearer { realm, service, scope }) => {
                Grant::Token(self.token(client, realm, service, scope).await?)
            }
            Some(Challenge::Basic) if self.credentials.is_some() => Grant::Basic,
            Some(Challenge::Basic) => {
                return Err(TokenError::Refused(
                    "the registry wants a user; add username and password".into(),
                ));
            }
            None => {
                return Err(TokenError::Refused(
                    "the registry answered 401 without a way to log in that is known".into(),
                ));
            }
        };
        *self.lock() = grant;
        Ok(())
    }

    async fn token(
        &self,
        client: &Client,
        mut realm: Url,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<Secret, TokenError> {
        if realm.scheme() != "https" && !self.plain_http {
            return Err(TokenError::Refused(
                "the registry wants its user to log in without TLS".into(),
            ));
        }
        for (key, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                realm.query_pairs_mut().append_pair(key, &value);
            }
        }
        let request = self.as_user(client.get(realm)).timeout(TOKEN_TIMEOUT);
        let for_now =
            |error| TokenError::ForNow(format!("getting a token: {}", http::describe(error)));
        let answer = request.send().await.map_err(for_now)?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(TokenError::ForNow(format!("the token server answered {status}")));
        }
        if !status.is_success() {
            return Err(TokenError::Refused(format!(
                "the token server answered {status}; check username and password"
            )));
        }
        let body: TokenAnswer = answer.json().await.map_err(for_now)?;
        body.token.or(body.access_token).ok_or_else(|| {
            TokenError::Refused("the token server's answer has no token in it".into())
        })
    }
}

/// Of the two names for the same, a server may use either.
#[derive(serde::Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

/// A `WWW-Authenticate` (RFC 9110, section 11.6.1) of one challenge.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (key, value) in Parameters(parameters) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = value.parse().ok(),
                "service" => service = Some(value.to_owned()),
                "scope" => scope = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `key="value", key=value …`. Values with escaped quotes are in no challenge of a registry.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = self.0.trim_start_matches([',', ' ']).split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        self.0 = rest;
        Some((key.trim(), value.trim()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_registries_are_read() {
        let text = "Bearer realm=\"https://auth.example/token\",service=\"registry.example\", \
                    scope=\"repository:os/demo:pull,push\",error=invalid_token";
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".parse().unwrap(),
            service: Some("registry.example".into()),
            scope: Some("repository:os/demo:pull,push".into()),
        };
        assert_eq!(Challenge::parse(text), Some(expected));
        assert_eq!(Challenge::parse("Basic realm=\"r\""), Some(Challenge::Basic));
        for unknown in ["", "Negotiate", "Bearer", "Bearer realm=\"not a URL\"", "Bearer realm=\""]
        {
            assert_eq!(Challenge::parse(unknown), None, "{unknown:?}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_makes_the_parser_panic_or_spin(text in "[Bb]earer .*") {
            let _ = Challenge::parse(&text);
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let password = Secret::new("hunter2");
        let credentials = Credentials { username: "me".into(), password: password.clone() };
        let tokens = Tokens::new(Some(credentials.clone()), false);
        *tokens.lock() = Grant::Token(password.clone());
        for access in [
            Access::Basic(credentials),
            Access::Bearer(password),
            Access::Registry(Arc::new(tokens)),
        ] {
            assert!(!format!("{access:?}").contains("hunter2"));
        }
    }
}
