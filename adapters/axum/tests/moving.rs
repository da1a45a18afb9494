//! What a handler sees of a connection that another generation accepted.
#![cfg(unix)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use handover::{Address, Connection, GenerationBuilder, testing::Service};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn program(builder: GenerationBuilder) -> Result<(), BoxError> {
    let generation = builder.probation(Duration::from_millis(200)).start()?;
    let listener = generation.listen("web=127.0.0.1:0").await?;
    let number = generation.number();
    let app = Router::new().route(
        "/",
        get(
            async move |ConnectInfo(socket): ConnectInfo<SocketAddr>,
                        ConnectInfo(address): ConnectInfo<Address>,
                        Extension(connection): Extension<Arc<Connection>>| {
                let age = connection.since().elapsed().as_millis();
                let requests = connection.requests();
                connection.set_trace_context(&format!("opened-by-{number}"));
                let trace = connection.trace_context().unwrap_or_default();
                format!("{number} {socket} {address} {requests} {trace} {age};")
            },
        ),
    );
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    generation.ready().await?;
    server.await?;
    Ok(())
}

async fn ask(stream: &mut TcpStream) -> Vec<String> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while answer.last() != Some(&b';') {
        let read = timeout(Duration::from_secs(20), stream.read_buf(&mut answer));
        assert!(read.await.unwrap().unwrap() > 0, "closed");
    }
    let answer = String::from_utf8(answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let words = body.trim_end_matches(';').split(' ');
    words.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sees_what_it_knew_of_a_moved_connection() {
    let service = Service::start(program).await.unwrap();
    let address = service.current().address("web").unwrap().to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let us = stream.local_addr().unwrap().to_string();
    let mut last_age = 0;
    for generation in 0..4 {
        // Idle meanwhile, so that it is held first; and, every other time, until it is let go.
        if generation % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        let answer = ask(&mut stream).await;
        let requests = (generation + 1).to_string();
        let trace = "opened-by-0".to_owned();
        let generation_now = generation.to_string();
        let expected = [generation_now, us.clone(), us.clone(), requests, trace];
        assert_eq!(answer[..5], expected);
        let age: u128 = answer[5].parse().unwrap();
        assert!(age >= last_age, "{age} after {last_age}");
        last_age = age;
        if generation < 3 {
            service.upgrade().await.unwrap();
        }
    }
    assert!(last_age >= 800, "{last_age}");
}
