use tokio::runtime::{self, Runtime};

use super::servers::{Server, grpc_servers, http1_servers, http2_servers};
use crate::{Row, Run};

/// One HTTP/1 request on an open connection, answered with "Hello, world!". The first row is bare
/// hyper; all have the client, the task of the connection and the runtime in common.
pub fn request() -> Vec<Row> {
    http1_servers().into_iter().map(asking).collect()
}

/// The same with a connection for each request, which the client ends.
pub fn new_connection() -> Vec<Row> {
    http1_servers().into_iter().map(connecting).collect()
}

/// One HTTP/2 request on an open connection.
pub fn http2() -> Vec<Row> {
    http2_servers().into_iter().map(asking).collect()
}

/// A unary call of gRPC on an open connection. The first row is tonic's routes on bare hyper.
pub fn grpc() -> Vec<Row> {
    grpc_servers().into_iter().map(asking).collect()
}

fn asking(server: Server) -> Row {
    row(server, |server, runtime| {
        let mut client = Some(server.start(runtime).connect());
        move |runtime, times| {
            let mut asking = client.take().expect("given back each time");
            // A task among others, as the server's are: it never comes to the runtime's looking for
            // events after each request, which costs more where there is a timer.
            let asked = runtime.spawn(async move {
                for _ in 0..times {
                    asking.request().await;
                }
                asking
            });
            client = runtime.block_on(asked).ok();
        }
    })
}

fn connecting(server: Server) -> Row {
    row(server, |server, runtime| {
        let connector = server.start(runtime);
        move |runtime, times| {
            let connector = connector.clone();
            let asked = runtime.spawn(async move {
                for _ in 0..times {
                    connector.connect().request().await;
                }
            });
            runtime.block_on(asked).expect("each is answered");
        }
    })
}

/// A row of what is done with a server on a runtime of its own, one to each thread.
fn row<D>(server: Server, make: impl Fn(&Server, &Runtime) -> D + Copy + 'static) -> Row
where
    D: FnMut(&Runtime, u64) + Send + 'static,
{
    Row::new(server.name(), move |threads| {
        let runs = (0..threads).map(|_| -> Run {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            let mut run = make(&server, &runtime);
            Box::new(move |times| run(&runtime, times))
        });
        runs.collect()
    })
}
