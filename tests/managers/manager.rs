//! A receiver and an establisher over loopback TCP.

use evermux::{MuxManager, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_stream_goes_through_two_managers() {
    let receiver = MuxManager::receive("127.0.0.1:0").start().await.unwrap();
    let address = receiver.local_addr().unwrap();
    let establisher = MuxManager::establish(address.to_string()).start().await.unwrap();
    let server = tokio::spawn({
        let receiver = receiver.clone();
        async move {
            let session = receiver.session().await.unwrap();
            let mut stream = session.accept_stream().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let mut stream = establisher.open_stream().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "HELLO");
    server.await.unwrap();
    establisher.shutdown().await;
    receiver.shutdown().await;
    assert!(matches!(establisher.session().await, Err(Stopped::ShutDown)));
}
