//! `/assets`: the files of one directory, in whole or in part, by GET and HEAD.
//!
//! Own code in place of a file service of the framework's family: an image is fetched in parts
//! over hours, so `If-Range` and a strong `ETag` have to hold, and those it does not have.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::App;
use super::error::ApiError;
use super::extract::InPath;
use super::range::{Validators, Wanted, wanted};

/// How much is read at once, bytes: each read crosses to another thread and back.
const CHUNK: usize = 256 << 10;

/// `GET /assets/{*path}`
pub(super) async fn serve(
    State(app): State<App>,
    InPath(path): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(inside) = inside(&path) else {
        return Err(ApiError::bad_request(format!("{path:?} is not a path to a file in /assets")));
    };
    let (mut file, size, validators) =
        open(&app.assets.join(inside)).await.map_err(|error| refusal(&path, &error))?;
    let mut answer = HeaderMap::new();
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::ETAG, value(&validators.etag));
    if let Some(modified) = validators.modified {
        answer.insert(header::LAST_MODIFIED, value(&httpdate::fmt_http_date(modified)));
    }
    let (status, part) = match wanted(&headers, &validators, size) {
        Wanted::Nothing => return Ok((StatusCode::NOT_MODIFIED, answer).into_response()),
        Wanted::Unsatisfiable => {
            answer.insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
            let why = format!("{path:?} has {size} bytes; the range begins after its end");
            let problem = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, why);
            return Ok((answer, problem).into_response());
        }
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(part) => {
            let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            answer.insert(header::CONTENT_RANGE, value(&range));
            (StatusCode::PARTIAL_CONTENT, part)
        }
    };
    let length = part.end - part.start;
    answer.insert(header::CONTENT_LENGTH, length.into());
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if part.start > 0 {
        file.seek(SeekFrom::Start(part.start)).await.map_err(|error| refusal(&path, &error))?;
    }
    // A file that gets shorter meanwhile cuts the connection: fewer bytes came than were named.
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK));
    Ok((status, answer, body).into_response())
}

/// The path below the directory, if it cannot lead out of it. Symbolic links in there are the
/// operator's word and are followed.
fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
    (is_plain && !has_nul).then_some(path)
}

async fn open(path: &Path) -> io::Result<(File, u64, Validators)> {
    let not_a_file = || io::Error::new(io::ErrorKind::IsADirectory, "it is not a regular file");
    // Before it is opened: opening a pipe would wait for its other end.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(PathBuf::from(path)).await?;
    let metadata = file.metadata().await?;
    let etag = format!(
        "\"{:x}-{:x}-{:x}{:09}\"",
        metadata.len(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    let modified = metadata.modified().ok().and_then(to_the_second);
    Ok((file, metadata.len(), Validators { etag, modified }))
}

fn to_the_second(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

fn refusal(path: &str, error: &io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidFilename => {
            ApiError::not_found(format!("{path:?} is not a file in the assets directory"))
        }
        io::ErrorKind::PermissionDenied => ApiError::new(
            StatusCode::FORBIDDEN,
            format!("the server may not read {path:?} in the assets directory"),
        ),
        _ => ApiError::internal(format!("reading the asset {path:?}: {error}")),
    }
}

/// Digits, letters and quotes, which are all that is put in here.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
