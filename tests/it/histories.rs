//! Recorded histories: kept from real runs on demand, replayed in every test run.
//!
//! `EZ_RECORD_HISTORIES=1 make test` writes `tests/histories/<name>.json` anew. A history is never written over to make a
//! changed workflow pass: the change goes through `ctx.patched`, and a new history joins the old ones.
use std::{fs, path::PathBuf};

use house::House;
use prost::Message;
use temporalio_client::WorkflowHistory;
use temporalio_common::{
    UntypedWorkflow,
    protos::temporal::api::{
        enums::v1::EventType,
        history::v1::{History, HistoryEvent},
    },
};

use crate::shop::{SOON, until};

/// Where recorded histories stand.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// Waits for the end of a workflow, checks its history for private words, and keeps it when recording was asked for.
pub(crate) async fn keep(house: &House, workflow_id: &str, name: &str) {
    let client = house.temporal().await.expect("Temporal");
    let handle = client.get_workflow_handle::<UntypedWorkflow>(workflow_id);
    let events = until(&format!("{workflow_id} has ended"), SOON, || async {
        let events = handle.fetch_history(Default::default()).into_events().await.ok()?;
        let ended = matches!(events.last()?.event_type(), EventType::WorkflowExecutionCompleted);
        ended.then_some(events)
    })
    .await;
    assert_nothing_private(name, &events);
    if std::env::var_os("EZ_RECORD_HISTORIES").is_some() {
        let text = WorkflowHistory::from(History { events }).to_json().await.expect("JSON");
        fs::create_dir_all(folder()).expect("the folder");
        fs::write(folder().join(format!("{name}.json")), text).expect("the history");
    }
}

/// No address, password or key stands in a history, in any payload of any event.
pub(crate) fn assert_nothing_private(name: &str, events: &[HistoryEvent]) {
    assert!(events.len() > 5, "{name} holds only {} events", events.len());
    let whole = History { events: events.to_vec() }.encode_to_vec();
    let text = String::from_utf8_lossy(&whole);
    let known = ["policy", "standing", "patience_secs"];
    assert!(known.iter().any(|word| text.contains(word)), "{name}: the payloads cannot be read");
    for word in
        ["@example.test", "ssh-ed25519", "AAAAC3Nza", "correct-horse", "sk_test", "whsec_", "cipassword", "PVEAPIToken"]
    {
        assert!(!text.contains(word), "{name} holds {word}");
    }
}
