//! Asking for a job for ever: whatever goes wrong, a machine in a rack can only try again.

use std::time::Duration;

use nibs_job::wire::{Hello, Offer};
use serde_json::Value;
use tracing::{info, warn};

use super::Client;
use crate::backoff::{Backoff, Policy};

/// How long one question stays open at the control plane, which caps it at a minute.
const WAIT: Duration = Duration::from_secs(55);

/// Waits between questions that failed.
const RETRY: Policy = Policy { base: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// An answer without a job that came sooner than this is no long poll; the next question then
/// waits like one that failed, so that no server is asked in a tight loop.
const TOO_SOON: Duration = Duration::from_secs(1);

/// Asks until there is a job. Says on the console whenever a question failed, and why.
pub async fn next_job(client: &Client, hello: &Hello) -> Offer<Value> {
    let (endpoint, machine) = (client.endpoint(), client.machine());
    info!("asking {endpoint} for a job for machine {machine}");
    let mut backoff = Backoff::new(RETRY);
    let mut is_away = false;
    loop {
        let asked = tokio::time::Instant::now();
        match client.next_job(hello, WAIT).await {
            Ok(answer) => {
                if is_away {
                    info!("the control plane at {endpoint} answers again");
                    is_away = false;
                }
                if let Some(offer) = answer {
                    return offer;
                }
                if asked.elapsed() >= TOO_SOON {
                    backoff.reset();
                    continue;
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) => {
                is_away = true;
                let wait = backoff.next_wait();
                warn!("{error}; trying again in {:.1} s, for ever", wait.as_secs_f64());
                tokio::time::sleep(wait).await;
            }
        }
    }
}
