//! The control plane's client: what it says about each way in which a call can fail.

mod agent_support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_support::{ControlPlane, Mood, http_client};
use axum::Router;
use axum::http::StatusCode;
use nibs_agent::control::{CallError, Client};
use nibs_job::Facts;
use nibs_job::wire::{Hello, Report};
use reqwest::dns::{Name, Resolve, Resolving};
use tokio::net::TcpListener;

/// A resolver that knows no name, so that no test asks a real one.
struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, name: Name) -> Resolving {
        let why = io::Error::other(format!("resolving {}: no name server", name.as_str()));
        Box::pin(async move { Err(why.into()) })
    }
}

fn hello() -> Hello {
    Hello { agent: "0".into(), facts: Facts::default() }
}

fn client(url: &str) -> Client {
    Client::new(http_client(), url.parse().unwrap(), "m".into())
}

async fn failure(client: &Client) -> CallError {
    client.next_job(&hello(), Duration::ZERO).await.unwrap_err()
}

/// A server that gives this answer to everything.
async fn answering(status: StatusCode, body: Vec<u8>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(move || async move { (status, body) });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    client(&format!("http://{address}"))
}

#[tokio::test]
async fn a_name_nobody_knows() {
    let http = {
        http_client();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
        builder.dns_resolver(Arc::new(Nobody)).build().unwrap()
    };
    let url = "http://me:hunter2@control.example/nibs";
    let client = Client::new(http, url.parse().unwrap(), "m".into());
    let said = failure(&client).await.to_string();
    assert_eq!(
        said,
        "reaching the control plane at http://control.example/nibs: its name does not resolve: \
         resolving control.example: no name server"
    );
}

#[tokio::test]
async fn a_port_nobody_listens_on() {
    let mut plane = ControlPlane::start().await;
    plane.stop().await;
    let said = failure(&plane.client()).await.to_string();
    assert!(said.contains("connection refused: nothing listens there"), "{said}");
}

#[tokio::test]
async fn tls_where_there_is_none() {
    let plane = ControlPlane::start().await;
    let said = failure(&client(&plane.url().replace("http:", "https:"))).await.to_string();
    assert!(said.contains(": TLS: ") && said.contains("--ca"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_no_control_plane() {
    let page = "<html>\n  <body>It works!</body>\n</html>".into();
    let said = failure(&answering(StatusCode::OK, page).await).await.to_string();
    assert!(said.contains("its answer is not as agreed"), "{said}");

    let page = "<html>\n  <body>No such page</body>\n</html>".into();
    let said = failure(&answering(StatusCode::NOT_FOUND, page).await).await.to_string();
    assert!(said.ends_with("404 Not Found: <html> <body>No such page</body> </html>"), "{said}");

    let said = failure(&answering(StatusCode::BAD_GATEWAY, Vec::new()).await).await.to_string();
    assert!(said.contains("502") && said.contains("is this a Nibs control plane?"), "{said}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let client = answering(StatusCode::OK, vec![b' '; 9 << 20]).await;
    let said = failure(&client).await.to_string();
    assert!(said.contains("it is longer than"), "{said}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_control_planes_words_and_sorted() {
    let plane = ControlPlane::start().await;
    let report = Report { machine: "m".into(), events: Vec::new() };
    for (status, lost, content) in
        [(404, true, false), (409, true, false), (422, false, true), (503, false, false)]
    {
        plane.store.lock().unwrap().moods.push_back(Mood::Refuse(status));
        let error = plane.client().report("j", &report).await.unwrap_err();
        assert_eq!((error.is_job_lost(), error.is_content_refused()), (lost, content), "{status}");
        assert!(error.to_string().ends_with(": not now"), "{error}");
    }
}
