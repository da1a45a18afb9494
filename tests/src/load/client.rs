//! One client: a loop of requests of one kind.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    body::{Check, stream_byte},
    config::Config,
    connection::{Connection, Head, Look},
    failure::{Failure, Loss},
    kind::Kind,
    stats::Recorder,
};

/// Pieces in which an upload is sent.
const UPLOAD_PIECES: usize = 20;
/// The shortest pause of an idle client.
const IDLE_MIN: Duration = Duration::from_millis(20);

pub(crate) struct Client {
    kind: Kind,
    config: Arc<Config>,
    recorder: Arc<Recorder>,
    stop: watch::Receiver<bool>,
    connection: Option<Connection>,
    connects: u64,
    /// The body of an upload; empty for other kinds.
    upload: Vec<u8>,
}

impl Client {
    pub(crate) fn new(
        kind: Kind,
        config: Arc<Config>,
        recorder: Arc<Recorder>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let len = if kind == Kind::Upload {
            config.upload_len
        } else {
            0
        };
        // Any bytes would do; these differ from place to place.
        let upload = (0..len as u64)
            .map(|at| stream_byte(at * at + at / 7))
            .collect();
        Self {
            kind,
            config,
            recorder,
            stop,
            connection: None,
            connects: 0,
            upload,
        }
    }

    /// Asks until it is stopped.
    pub(crate) async fn run(mut self) {
        // Clients of one kind are not to march in step.
        self.pause(Duration::from_millis(fastrand::u64(0..100)))
            .await;
        while !*self.stop.borrow() {
            let lost = self.turn().await;
            let pause = if lost {
                self.config.after_loss
            } else {
                self.pause_of_kind()
            };
            self.pause(pause).await;
        }
    }

    /// One request, from the last look to its outcome. Returns true if it was lost.
    async fn turn(&mut self) -> bool {
        let look = match &mut self.connection {
            Some(connection) => Some(connection.last_look().await),
            None => None,
        };
        if look == Some(Look::Closed) {
            self.recorder.found_closed(self.kind);
            self.connection = None;
        }
        self.recorder.begin();
        let begin = Instant::now();
        let limit = self.config.time_limit(self.kind);
        let outcome = if look == Some(Look::Unasked) {
            Err(Loss::new(
                Failure::BadBody,
                "the server sent bytes that nobody had asked for",
            ))
        } else {
            match timeout(limit, self.request()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Loss::new(
                    Failure::Timeout,
                    format!("no answer in {limit:?}"),
                )),
            }
        };
        match outcome {
            Ok(head) => {
                if head.close || !self.kind.is_persistent() {
                    self.connection = None;
                }
                self.recorder.answered(self.kind, begin.elapsed(), &head);
                false
            }
            Err(loss) => {
                self.connection = None;
                self.recorder.lost(self.kind, loss);
                true
            }
        }
    }

    async fn request(&mut self) -> Result<Head, Loss> {
        let config = Arc::clone(&self.config);
        if self.connection.is_none() {
            if self.kind.is_persistent() && self.connects > 0 {
                self.recorder.reconnected(self.kind);
            }
            self.connects += 1;
            self.connection = Some(Connection::open(&config.target).await?);
        }
        if !config.rtt.is_zero() {
            sleep(config.rtt).await;
        }
        let Some(connection) = &mut self.connection else {
            return Err(Loss::new(Failure::ConnectOther, "no connection"));
        };
        let mut check = match self.kind {
            Kind::Keepalive | Kind::Idle | Kind::Fresh => {
                connection.send(&get(&config.path)).await?;
                Check::page()
            }
            Kind::Dribble => {
                let head = get(&config.path);
                // Once within the request line, once within a header's name.
                let (first, rest) = head.split_at(config.path.len() + 8);
                let (second, third) = rest.split_at(rest.len() - 12);
                connection.send(first).await?;
                sleep(config.dribble_pause).await;
                connection.send(second).await?;
                sleep(config.dribble_pause).await;
                connection.send(third).await?;
                Check::page()
            }
            Kind::Slow => {
                let path = format!("{}?ms={}", config.slow_path, config.slow.as_millis());
                connection.send(&get(&path)).await?;
                Check::page()
            }
            Kind::Stream => {
                let path = format!(
                    "{}?secs={}",
                    config.stream_path,
                    config.stream.as_secs_f64()
                );
                connection.send(&get(&path)).await?;
                Check::stream(config.stream)
            }
            Kind::Upload => {
                upload(connection, &config, &self.upload).await?;
                Check::upload(&self.upload)
            }
        };
        let head = connection.receive(|bytes| check.feed(bytes)).await?;
        if head.status != 200 {
            return Err(Loss::new(
                Failure::BadStatus,
                format!("status {}", head.status),
            ));
        }
        check
            .finish(&head)
            .map_err(|wrong| Loss::new(Failure::BadBody, wrong))?;
        Ok(head)
    }

    fn pause_of_kind(&self) -> Duration {
        match self.kind {
            Kind::Keepalive => self.config.keepalive_pause,
            Kind::Fresh => self.config.fresh_pause,
            Kind::Idle => {
                let max = self.config.idle_max.max(IDLE_MIN);
                let range = IDLE_MIN.as_micros() as u64..=max.as_micros() as u64;
                Duration::from_micros(fastrand::u64(range))
            }
            // They take their time within the request.
            Kind::Dribble | Kind::Slow | Kind::Stream | Kind::Upload => IDLE_MIN,
        }
    }

    /// Pauses, unless the storm is over.
    async fn pause(&mut self, pause: Duration) {
        if pause.is_zero() {
            // A client without pauses still lets others run.
            return tokio::task::yield_now().await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: handover.test\r\nuser-agent: storm\r\n\r\n").into_bytes()
}

async fn upload(connection: &mut Connection, config: &Config, body: &[u8]) -> Result<(), Loss> {
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: handover.test\r\ncontent-length: {}\r\n\r\n",
        config.upload_path,
        body.len()
    );
    connection.send(head.as_bytes()).await?;
    for piece in body.chunks(body.len().div_ceil(UPLOAD_PIECES).max(1)) {
        sleep(config.upload / UPLOAD_PIECES as u32).await;
        connection.send(piece).await?;
    }
    Ok(())
}
