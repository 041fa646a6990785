//! Errors as answers: a status and a [`Problem`] with a sentence that helps.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use nibs_job::wire::Problem;
use nibs_precheck::Finding;
use serde::Serialize;
use tracing::error;

use crate::catalog::PutError;
use crate::store::StoreError;

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    findings: Vec<Finding>,
}

/// A [`Problem`], with what was found in the files of a job if it is about those.
#[derive(Serialize)]
struct Refusal {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), findings: Vec::new() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// Ours: the log has the reason too, since whoever asked may not keep the answer.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        error!("{message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) async fn no_route(uri: Uri) -> Self {
        Self::not_found(format!("nothing is at {}; see GET /v1/machines, /v1/jobs", uri.path()))
    }

    pub(super) async fn no_method(method: Method, uri: Uri) -> Self {
        let message = format!("{} does not take {method}", uri.path());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, message, findings } = self;
        (status, Json(Refusal { problem: Problem { error: message }, findings })).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFinished { .. } => Self::conflict(error.to_string()),
            error => Self::internal(error.to_string()),
        }
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::Invalid { .. } => Self::bad_request(message),
            PutError::Refused { findings, .. } => Self { findings, ..Self::bad_request(message) },
            PutError::Conflict { .. } => Self::conflict(message),
            PutError::Write { .. } => Self::internal(message),
        }
    }
}
