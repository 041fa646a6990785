//! JSON Schemas of the contract (draft 2020-12), for `docs/` and for editors.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};

use crate::params::{Bmap, Mode, TufRoot, TufVersion};
use crate::{Event, HexDigest, Job, Location, Size, Span};

/// The schema of a job file.
pub fn job() -> Schema {
    schema_for!(Job)
}

/// The schema of an event.
pub fn event() -> Schema {
    schema_for!(Event)
}

/// Lets `with` be absent for the actions whose parameters all have defaults.
pub(crate) fn with_is_optional(task: &mut Schema) {
    const MANDATORY: [&str; 5] =
        ["stream-image", "bottlerocket", "write-files", "extract-archive", "upload-image"];
    let variants = task.get_mut("oneOf").and_then(|variants| variants.as_array_mut());
    for variant in variants.into_iter().flatten() {
        let uses = variant.pointer("/properties/uses/const").and_then(|uses| uses.as_str());
        if uses.is_some_and(|uses| !MANDATORY.contains(&uses)) {
            variant["required"] = serde_json::json!(["uses"]);
        }
    }
}

/// A schema written by hand for a type whose text form serde cannot see.
macro_rules! schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema!(Span, "Span", {"type": "string", "examples": ["90s", "20m", "1h 30m"]});
schema!(Size, "Size", {"type": ["string", "integer"], "examples": ["8GiB", 500_000_000_000_u64]});
schema!(Mode, "Mode", {"type": "string", "pattern": "^[0-7]{1,5}$", "examples": ["0600"]});
schema!(Location, "Location", {"type": "string", "pattern": "^(https?://|oci(\\+http)?://|file://|/)"});
schema!(Bmap, "Bmap", {"type": "string", "pattern": "^(https?://|file://|/|none$)"});
schema!(HexDigest<32>, "Sha256", {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"});
schema!(HexDigest<64>, "Sha512", {"type": "string", "pattern": "^[0-9a-fA-F]{128}$"});
schema!(TufRoot, "TufRoot", {"type": "string", "pattern": "^(\\s*\\{|https?://|file://|/)"});
schema!(TufVersion, "TufVersion", {"type": "string", "pattern": "^(latest|[0-9]+\\.[0-9]+\\.[0-9]+.*)$", "examples": ["latest", "1.20.0"]});
