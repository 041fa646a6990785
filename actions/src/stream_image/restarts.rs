//! Whether a transfer that cannot go on where it broke may start over.
//!
//! What bounds this is progress, not attempts: starting over is fruitful as long as it gets
//! further than ever before.

use std::time::{Duration, Instant};

use crate::{Context, Error, image};

/// Wait before starting over once that has not got further, so that a server that breaks at once
/// is not asked without end.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Restarts {
    /// How long it may go on without getting further.
    patience: Duration,
    /// The furthest byte that was reached, and when that was.
    furthest: Option<(u64, Instant)>,
}

impl Restarts {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, furthest: None }
    }

    /// Says why, and waits if need be, if starting over may help; otherwise gives the error back.
    pub(crate) fn after(&mut self, error: Error, context: &Context) -> Result<(), Error> {
        let Error::Image(image::Error::NotResumable { offset, .. }) = &error else {
            return Err(error);
        };
        match self.furthest {
            Some((furthest, since)) if *offset <= furthest => {
                if since.elapsed() >= self.patience {
                    return Err(error);
                }
                let pause = PAUSE.min(self.patience);
                let sleep = async { tokio::time::sleep(pause).await };
                context.runtime.block_on(context.stop.guard(sleep))?;
            }
            _ => self.furthest = Some((*offset, Instant::now())),
        }
        context.sink.reset(error.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use nibs_job::{LogLevel, Progress};

    use super::*;
    use crate::{Machine, Sink, Stop, http};

    #[derive(Default)]
    struct Resets(Mutex<Vec<String>>);

    impl Sink for Resets {
        fn progress(&self, _: Progress) {}
        fn reset(&self, reason: String) {
            self.0.lock().unwrap().push(reason);
        }
        fn warning(&self, _: String) {}
        fn log(&self, _: LogLevel, _: String) {}
    }

    fn context(sink: Arc<Resets>, runtime: &tokio::runtime::Runtime) -> Context {
        Context {
            machine: Machine::default(),
            stop: Stop::default(),
            sink,
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        }
    }

    fn broken_at(offset: u64) -> Error {
        Error::Image(image::Error::NotResumable {
            url: "http://h/i".into(),
            offset,
            total: None,
            broke: "cut".into(),
            why: "it has changed".into(),
        })
    }

    #[test]
    fn it_starts_over_as_long_as_it_gets_further_and_no_longer_than_patience_lasts() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let resets = Arc::new(Resets::default());
        let context = context(resets.clone(), &runtime);
        let mut restarts = Restarts::new(Duration::ZERO);
        for offset in [10, 11, 500] {
            restarts.after(broken_at(offset), &context).unwrap();
        }
        restarts.after(broken_at(500), &context).unwrap_err();
        let mut patient = Restarts::new(Duration::from_millis(20));
        patient.after(broken_at(10), &context).unwrap();
        patient.after(broken_at(9), &context).unwrap();
        patient.after(broken_at(9), &context).unwrap_err();
        let resets = resets.0.lock().unwrap();
        assert_eq!(resets.len(), 5);
        assert!(resets[0].contains("it has changed"), "{resets:?}");
    }

    #[test]
    fn any_other_failure_is_none_of_its_business() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let context = context(Arc::new(Resets::default()), &runtime);
        let error = Error::Image(image::Error::Empty);
        let error = Restarts::new(Duration::MAX).after(error, &context).unwrap_err();
        assert!(matches!(error, Error::Image(image::Error::Empty)), "{error}");
    }
}
