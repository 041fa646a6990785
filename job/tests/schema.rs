//! Holds `docs/*.schema.json` to the types. `NIBS_UPDATE=1 cargo test -p nibs-job` rewrites them.

use std::fs;
use std::path::Path;

#[test]
fn the_published_schemas_are_those_of_the_types() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (name, schema) in [("job", nibs_job::schema::job()), ("event", nibs_job::schema::event())] {
        let path = docs.join(format!("{name}.schema.json"));
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("NIBS_UPDATE").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == generated,
            "{} is not what the types say; run NIBS_UPDATE=1 cargo test -p nibs-job",
            path.display()
        );
    }
}
