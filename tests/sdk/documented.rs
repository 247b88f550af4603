//! What docs/sending.md says is what runs here.

use std::path::Path;
use std::process::Stdio;

use support::forebay::Forebay;
use support::postgres::database;

use crate::rust::first;
use crate::sdks::Sdk;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Scenario: the programs of docs/sending.md. Guarantee: each of them sends its record.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_programs_send() {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), &[]).await;
    let client = database.connect().await;
    for (before, sdk) in Sdk::installed().enumerate() {
        if sdk == Sdk::Rust {
            first::log_to(&forebay.endpoint()).await.unwrap();
        } else {
            let mut program = sdk.first();
            let program = program.env("OTEL_EXPORTER_OTLP_ENDPOINT", forebay.endpoint()).stdin(Stdio::null());
            assert!(program.status().await.unwrap().success(), "{sdk:?}");
        }
        forebay.settles().await;
        let same = "SELECT count(*) FROM otel.logs WHERE service_name = 'shop' AND body = 'card declined' \
                    AND severity = 'WARN' AND attributes = '{\"order\": 17}'";
        let found: i64 = client.query_one(same, &[]).await.unwrap().get(0);
        assert_eq!(found, before as i64 + 1, "{sdk:?}");
    }
}

/// Scenario: code in the documentation, under the name of a file. Guarantee: that file has it, as it is.
#[test]
fn the_documentation_shows_what_is_tested() {
    let mut blocks = 0;
    for page in ["README.md", "docs/sending.md", "docs/existing-tables.md"] {
        let text = std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        for named in text.split("<!-- ").skip(1) {
            let Some((file, rest)) = named.split_once(" -->\n```") else { continue };
            let code = rest.split_once('\n').and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
            let tested = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
            assert!(tested.contains(code), "{page} shows what {file} does not have:\n{code}");
            blocks += 1;
        }
    }
    assert!(blocks >= 8, "{blocks} blocks are named");
}
