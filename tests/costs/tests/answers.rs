//! What is measured is a good answer: each server gives the one that it was asked for, again and again
//! on one connection.

use handover_costs::rows::{Server, grpc_servers, http1_servers, http2_servers};
use tokio::runtime::Builder;

/// What each of these servers writes for each of some requests.
fn answers(servers: &[Server], check: impl Fn(&str, &[u8])) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for server in servers {
        let mut client = server.start(&runtime).connect();
        for _ in 0..3 {
            let heard = runtime.block_on(client.request_and_hear());
            check(server.name(), &heard);
        }
    }
}

fn contains(heard: &[u8], part: &[u8]) -> bool {
    heard.windows(part.len()).any(|window| window == part)
}

#[test]
fn http1_is_answered() {
    answers(&http1_servers(), |name, heard| {
        let heard = String::from_utf8_lossy(heard);
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {heard}");
        assert!(heard.ends_with("\r\n\r\nHello, world!"), "{name}: {heard}");
        assert!(!heard.contains("close"), "{name}: {heard}");
    });
}

#[test]
fn http2_is_answered() {
    answers(&http2_servers(), |name, heard| {
        // A frame of data: its length and its kind; the flag and the stream are between.
        assert!(contains(heard, b"\0\0\x0d\0"), "{name}: {heard:?}");
        assert!(contains(heard, b"Hello, world!"), "{name}: {heard:?}");
    });
}

#[test]
fn grpc_is_answered() {
    answers(&grpc_servers(), |name, heard| {
        // A message of two bytes: the first field is 1, SERVING.
        let message = b"\0\0\0\0\x02\x08\x01";
        assert!(contains(heard, message), "{name}: {heard:?}");
    });
}
