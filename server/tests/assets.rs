//! Assets, over a real socket.

mod support;

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response};
use support::{Plane, problem};

fn header(answer: &Response, name: reqwest::header::HeaderName) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn contents() -> Vec<u8> {
    (0..1_000_003u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn a_download_that_was_cut_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.write("assets/hook/image", contents());
    let whole = plane.get("/assets/hook/image").await;
    assert_eq!(whole.status(), 200);
    assert_eq!(header(&whole, ACCEPT_RANGES), "bytes");
    assert_eq!(header(&whole, CONTENT_LENGTH), "1000003");
    let (etag, modified) = (header(&whole, ETAG), header(&whole, LAST_MODIFIED));
    assert!(etag.starts_with('"') && modified.ends_with("GMT"));
    assert_eq!(whole.bytes().await.unwrap(), contents());

    let ask = async |range: &str, condition: &str| {
        let request = plane.http.get(plane.url("/assets/hook/image"));
        request.header(RANGE, range).header(IF_RANGE, condition).send().await.unwrap()
    };
    for condition in [&etag, &modified] {
        let rest = ask("bytes=700000-", condition).await;
        assert_eq!(rest.status(), 206);
        assert_eq!(header(&rest, CONTENT_RANGE), "bytes 700000-1000002/1000003");
        assert_eq!(rest.bytes().await.unwrap(), contents()[700_000..]);
    }
    let beyond = ask("bytes=1000003-", &etag).await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(header(&beyond, CONTENT_RANGE), "bytes */1000003");
    assert!(problem(beyond).await.contains("1000003 bytes"));

    // The same size in the same second: only the strong validator tells them apart.
    let mut other = contents();
    other.reverse();
    plane.write("assets/hook/image", &other);
    let replaced = ask("bytes=700000-", &etag).await;
    assert_eq!(replaced.status(), 200);
    assert_eq!(replaced.bytes().await.unwrap(), other);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.write("assets/a", b"hello");
    plane.write("assets/empty", b"");
    let head = plane.call(Method::HEAD, "/assets/a", None).await;
    assert_eq!((head.status().as_u16(), header(&head, CONTENT_LENGTH).as_str()), (200, "5"));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let empty = plane.get("/assets/empty").await;
    assert_eq!((empty.status().as_u16(), header(&empty, CONTENT_LENGTH).as_str()), (200, "0"));
    let refused = plane.call(Method::DELETE, "/assets/a", None).await;
    assert_eq!(refused.status(), 405);
}

#[tokio::test]
async fn nothing_outside_the_directory_is_served() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.write("assets/sub/a", b"inside");
    plane.write("secret", b"hunter2");
    let absolute = data.path().join("secret");
    let absolute = absolute.to_str().unwrap();
    for path in [
        "/assets/../secret".to_owned(),
        "/assets/sub/../../secret".to_owned(),
        "/assets/..%2fsecret".to_owned(),
        "/assets/%2e%2e/secret".to_owned(),
        "/assets/%2e%2e%2fsecret".to_owned(),
        "/assets/sub/..%2f..%2fsecret".to_owned(),
        "/assets/..%5csecret".to_owned(),
        "/assets/%00/../../secret".to_owned(),
        "/assets/secret%00".to_owned(),
        format!("/assets/{absolute}"),
        format!("/assets/{}", absolute.replace('/', "%2f")),
        "/assets//../secret".to_owned(),
        "/assets/sub".to_owned(),
        "/assets/sub/".to_owned(),
        "/assets/".to_owned(),
        "/assets".to_owned(),
        "/assets/%ff".to_owned(),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let answer = plane.raw(&request).await;
        let is_refused = ["HTTP/1.1 400", "HTTP/1.1 404"].iter().any(|s| answer.starts_with(s));
        assert!(is_refused, "{path}: {answer}");
        assert!(!answer.contains("hunter2"), "{path}: {answer}");
        assert!(answer.contains("{\"error\":"), "{path}: {answer}");
    }
    assert_eq!(plane.text("/assets/sub/a").await, "inside");
}

#[tokio::test]
async fn a_pipe_does_not_hold_the_server() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.write("assets/a", b"x");
    let pipe = data.path().join("assets/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    assert_eq!(plane.get("/assets/pipe").await.status(), 404);
}
