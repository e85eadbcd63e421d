//! `Status` as JSON, with the feature `serde`.

use std::time::Duration;

use crate::support::{establisher, in_time, quick, receiver, until};
use serde_json::json;

#[tokio::test]
async fn a_status_reads_well_as_json() {
    let (receiver, address) = receiver(quick()).await;
    let establisher = establisher(address, quick()).await;
    let session = in_time(receiver.session()).await.unwrap();
    let status = serde_json::to_value(receiver.status()).unwrap();
    let live = &status["sessions"][0];
    assert_eq!(live["id"], json!(session.id().as_u64()));
    assert_eq!(live["peer"], json!(session.peer_addr().unwrap().to_string()));
    assert_eq!(live["round_trip_seconds"], json!(session.round_trip().unwrap().as_secs_f64()));
    assert_eq!(live["open_streams"], json!(0));
    assert_eq!(status["activity"], json!("live"));
    assert_eq!((&status["sessions_so_far"], &status["crowded_out"]), (&json!(1), &json!(0)));
    assert_eq!((&status["stopped"], &status["last_error"]), (&json!(null), &json!(null)));
    in_time(receiver.shutdown()).await;
    let status = serde_json::to_value(receiver.status()).unwrap();
    assert_eq!((&status["activity"], &status["stopped"]), (&json!("stopped"), &json!("the manager was shut down")));

    // Nobody listens any more.
    until(|| establisher.status().backoff_slept > Duration::ZERO).await;
    let status = serde_json::to_value(establisher.status()).unwrap();
    assert!(status["backoff_slept_seconds"].as_f64().unwrap() > 0.0, "{status}");
    in_time(establisher.shutdown()).await;
}
