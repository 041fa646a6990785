//! Something small that may well not be there: asked for once, and not for long.

use std::time::Duration;

use reqwest::header::ACCEPT_ENCODING;

use super::super::Result;
use super::Fetch;
use crate::http;

impl Fetch {
    /// All bytes of the first URL, if they come at once, within `patience` and are no more than
    /// `longest`; otherwise why not. Fails only when told to stop.
    pub fn glance(
        &self,
        longest: usize,
        patience: Duration,
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        let ask = async { tokio::time::timeout(patience, self.ask_once(longest)).await };
        let answer = self.runtime.block_on(self.stop.guard(ask))?;
        Ok(answer.unwrap_or_else(|_| Err(format!("no answer for {} s", patience.as_secs_f64()))))
    }

    async fn ask_once(&self, longest: usize) -> std::result::Result<Vec<u8>, String> {
        let url = self.urls.first().ok_or("no URL")?.clone();
        let request = self.client.get(url).header(ACCEPT_ENCODING, "identity");
        let mut response = self.access.show(request).send().await.map_err(http::describe)?;
        if !response.status().is_success() {
            return Err(format!("the server answered {}", response.status()));
        }
        if let Some(length) = response.content_length().filter(|length| *length > longest as u64) {
            return Err(format!("expected no more than {longest} bytes, found {length}"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(http::describe)? {
            if bytes.len() + chunk.len() > longest {
                return Err(format!("expected no more than {longest} bytes, more came"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
