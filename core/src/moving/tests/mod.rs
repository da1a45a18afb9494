//! The two halves of the protocol, over a real channel, in one process. The successor's process is
//! one that sleeps: what it would say is said here.

use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    task::JoinHandle,
    time::{advance, timeout},
};

mod held;

use super::{
    answers::Answers,
    inbound::{Adopters, Adopting},
    outbound::{Back, Given, PATIENCE, Route},
};
use crate::{
    Graceful, Reason, Stays, Stream,
    accept::{Arrival, MAX_STATE, Protocol},
    upgrade::{
        Successor,
        channel::{self, Channel},
        frame::{Decoded, Message, Moved},
        link::{Ended, Link},
        process::Process,
    },
};

const BOUND: Duration = Duration::from_secs(20);

/// A predecessor, and the channel's other end.
struct Old {
    graceful: Graceful,
    route: Route,
    theirs: Arc<Channel>,
    /// Its process.
    pid: u32,
    ended: JoinHandle<Ended>,
}

impl Old {
    fn start() -> Self {
        Self::of(link(false))
    }

    fn of((link, graceful, route, theirs): Ends) -> Self {
        let pid = link.successor.pid();
        let ended = tokio::spawn(watch(link));
        Self {
            graceful,
            route,
            theirs,
            pid,
            ended,
        }
    }

    /// Gives a connection; returns its other end as well.
    fn give(&self, unread: &[u8]) -> (UnixStream, JoinHandle<Result<(), Back>>) {
        let (client, given) = connection("web", unread);
        let route = self.route.clone();
        (client, tokio::spawn(async move { route.give(given).await }))
    }

    fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

type Ends = (Link, Graceful, Route, Arc<Channel>);

fn link(lazy: bool) -> Ends {
    let graceful = Graceful::new();
    let route = Route::new(graceful.clone(), PATIENCE, lazy);
    let (ours, theirs) = channel::pair().unwrap();
    let child = Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let successor = Successor::new(child.id().unwrap(), 1);
    let ours = Channel::new(ours).unwrap();
    let link = Link::new(
        successor,
        Some(Process::Child(child)),
        ours,
        route.clone(),
        None,
    );
    let theirs = Arc::new(Channel::new(theirs).unwrap());
    (link, graceful, route, theirs)
}

/// As the conductor does.
async fn watch(mut link: Link) -> Ended {
    let ended = link.ended().await;
    link.take_back();
    ended
}

/// A successor that adopts, by a listener of the name `web`.
struct New {
    adopters: Arc<Adopters>,
    web: Adopting,
    hears: JoinHandle<()>,
}

impl New {
    fn start(channel: &Arc<Channel>) -> Self {
        let adopters = Arc::new(Adopters::default());
        let web = adopters.register("web");
        web.adopts(&[Protocol::HTTP]);
        let (channel, to) = (channel.clone(), adopters.clone());
        // As the watch over the predecessor does.
        let hears = tokio::spawn(async move {
            let answers = Answers::new(channel.clone());
            while let Some(received) = channel.recv().await.unwrap() {
                match received.message {
                    Decoded::Known(Message::Connections { connections, lazy }) => {
                        let (payload, fds) = (received.payload, received.fds);
                        to.receive(&answers, connections, &payload, fds, lazy);
                    }
                    Decoded::Known(Message::Settle) => answers.settle(),
                    other => panic!("{other:?}"),
                }
            }
            answers.settle();
        });
        Self {
            adopters,
            web,
            hears,
        }
    }

    async fn arrival(&mut self) -> Arrival<Stream> {
        let arrival = poll_fn(|cx| self.web.poll(cx));
        timeout(BOUND, arrival).await.expect("an arrival")
    }
}

type Offer = (Vec<Moved>, Vec<u8>, Vec<std::os::fd::OwnedFd>);

async fn connections(channel: &Channel) -> Option<Offer> {
    let received = timeout(BOUND, channel.recv()).await.expect("a message");
    let received = received.unwrap()?;
    match received.message {
        Decoded::Known(Message::Connections { connections, .. }) => {
            Some((connections, received.payload, received.fds))
        }
        other => panic!("{other:?}"),
    }
}

fn connection(listener: &str, unread: &[u8]) -> (UnixStream, Given) {
    let (client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(BOUND)).unwrap();
    server.set_nonblocking(true).unwrap();
    let record = Moved {
        id: 0,
        listener: listener.to_owned(),
        peer: "unix:".to_owned(),
        unread: 0,
        age_ms: 1500,
        requests: 3,
        protocol: String::new(),
        version: 0,
        state: 0,
        proxied: None,
        trace: Some("00-1-2-01".to_owned()),
    };
    let given = Given {
        fd: server.into(),
        unread: unread.to_vec(),
        state: Vec::new(),
        record,
        departure: None,
    };
    (client, given)
}

const CHAT: Protocol = Protocol::new("chat", 3).since(2);

fn session(name: &str, version: u32, state: &[u8]) -> (UnixStream, Given) {
    let (client, mut given) = connection("web", b"");
    given.record.protocol = name.to_owned();
    given.record.version = version;
    given.state = state.to_vec();
    (client, given)
}

async fn back(giving: JoinHandle<Result<(), Back>>) -> Given {
    back_for(giving).await.0
}

/// With the reason.
async fn back_for(giving: JoinHandle<Result<(), Back>>) -> Back {
    let answer = timeout(BOUND, giving).await.expect("an answer").unwrap();
    answer.expect_err("it is moved")
}

async fn moved(giving: JoinHandle<Result<(), Back>>) {
    let answer = timeout(BOUND, giving).await.expect("an answer").unwrap();
    assert!(answer.is_ok(), "it came back");
}

/// Whoever has the other end hears nothing of a close.
fn assert_open(client: &UnixStream, given: Given) {
    let mut server = UnixStream::from(given.fd);
    server.write_all(b"still here").unwrap();
    let mut text = [0; 10];
    (&*client).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"still here");
}

async fn died(old: Old) -> ExitStatus {
    match timeout(BOUND, old.ended).await.expect("an end").unwrap() {
        Ended::Died(status) => status.unwrap(),
        Ended::Released => panic!("released"),
    }
}

#[tokio::test]
async fn a_claim_closes_our_duplicate_and_counts() {
    let old = Old::start();
    let mut new = New::start(&old.theirs);
    let guard = old.graceful.guard();
    old.graceful.drain_for(Reason::Upgrade { successor: 1 });
    let (mut client, giving) = old.give(b"GET /");
    let arrival = new.arrival().await;
    assert_eq!(arrival.connection().requests(), 3);
    assert!(arrival.connection().since().elapsed() >= Duration::from_millis(1500));
    assert_eq!(arrival.connection().trace_context(), Some("00-1-2-01"));
    let mut parcel = arrival.claim().await;
    moved(giving).await;
    assert_eq!(parcel.unread, b"GET /");
    client.write_all(b"ping").unwrap();
    let mut text = [0; 4];
    parcel.io.read_exact(&mut text).await.unwrap();
    parcel.io.write_all(&text).await.unwrap();
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ping");
    // Nobody else has a duplicate.
    drop(parcel);
    assert_eq!(client.read(&mut text).unwrap(), 0);
    drop(guard);
    assert_eq!(old.graceful.drained().await.moved, 1);
}

#[tokio::test]
async fn what_is_dropped_is_refused_and_comes_back_whole() {
    let old = Old::start();
    let mut new = New::start(&old.theirs);
    let (client, giving) = old.give(b"half a head");
    drop(new.arrival().await);
    let given = back(giving).await;
    assert_eq!(given.unread, b"half a head");
    assert_open(&client, given);
    // In a queue that nobody reads any more, too.
    let (client, giving) = old.give(b"");
    while !new.hears.is_finished() && old.route_has_sent() {
        tokio::task::yield_now().await;
    }
    drop(new.web);
    assert_open(&client, back(giving).await);
}

#[tokio::test]
async fn the_end_gives_back_what_was_not_claimed_and_never_what_was() {
    let old = Old::start();
    let given: Vec<_> = (0..10).map(|_| old.give(b"x")).collect();
    let mut ids = Vec::new();
    let mut fds = Vec::new();
    while ids.len() < 10 {
        let (records, _, more) = connections(&old.theirs).await.unwrap();
        ids.extend(records.iter().map(|record| record.id));
        fds.extend(more);
    }
    let claimed = ids.iter().copied().filter(|id| id % 3 == 0).collect();
    old.theirs
        .try_send(&Message::Claimed { ids: claimed })
        .unwrap();
    drop(fds);
    old.kill();
    let theirs = old.theirs.clone();
    let ended = old.ended;
    drop((theirs, old.theirs));
    assert!(matches!(ended.await.unwrap(), Ended::Died(_)));
    let mut counts = (0, 0);
    for (client, giving) in given {
        match giving.await.unwrap() {
            Ok(()) => counts.0 += 1,
            Err((given, _)) => {
                assert_eq!(given.unread, b"x");
                assert_open(&client, given);
                counts.1 += 1;
            }
        }
    }
    assert_eq!(counts, (3, 7));
}

#[tokio::test]
async fn what_waits_for_room_in_the_window_comes_back_too() {
    raise_limit();
    let old = Old::start();
    let given: Vec<_> = (0..1100).map(|_| old.give(b"")).collect();
    let mut seen = 0;
    let mut fds = Vec::new();
    while seen < 1024 {
        let (records, _, more) = connections(&old.theirs).await.unwrap();
        assert!(records.len() <= 64);
        assert_eq!(records.len(), more.len());
        seen += records.len();
        fds.extend(more);
    }
    // The window is full.
    assert_eq!(seen, 1024);
    let more = timeout(Duration::from_millis(50), old.theirs.recv()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(given.iter().all(|(_, giving)| !giving.is_finished()));
    drop(fds);
    old.kill();
    for (client, giving) in given {
        assert_open(&client, back(giving).await);
    }
    assert!(!old.route.is_open());
}

#[tokio::test]
async fn many_with_much_unread_are_split_and_arrive_whole() {
    raise_limit();
    let old = Old::start();
    let mut new = New::start(&old.theirs);
    let long = 32 * 1024;
    let mut givings = Vec::new();
    let mut clients = Vec::new();
    for i in 0..300_usize {
        let unread = vec![i as u8; if i % 7 == 0 { long } else { i * 13 % 997 }];
        let (client, giving) = old.give(&unread);
        clients.push((client, unread));
        givings.push(giving);
    }
    let mut parcels = Vec::new();
    for _ in 0..300 {
        parcels.push(new.arrival().await.claim().await);
    }
    for giving in givings {
        moved(giving).await;
    }
    // Each has the bytes of its own connection.
    for parcel in &mut parcels {
        let tag = parcel.unread.len().to_be_bytes();
        parcel.io.write_all(&tag).await.unwrap();
        parcel.io.write_all(&parcel.unread).await.unwrap();
    }
    for (mut client, unread) in clients {
        let mut tag = [0; 8];
        client.read_exact(&mut tag).unwrap();
        let mut all = vec![0; usize::from_be_bytes(tag)];
        client.read_exact(&mut all).unwrap();
        assert!(all == unread, "{} for {}", all.len(), unread.len());
    }
}

#[tokio::test]
async fn too_much_unread_comes_back_at_once() {
    let old = Old::start();
    let unread = vec![1; 32 * 1024 + 1];
    let (client, giving) = old.give(&unread);
    let (given, why) = back_for(giving).await;
    assert_eq!((&given.unread, why), (&unread, Stays::Unread));
    assert_open(&client, given);
}

#[tokio::test]
async fn too_much_state_comes_back_at_once() {
    let old = Old::start();
    let (client, given) = session("chat", 1, &vec![1; MAX_STATE + 1]);
    let given = timeout(BOUND, old.route.give(given)).await.unwrap();
    let (given, why) = given.expect_err("it is too large");
    assert_eq!(why, Stays::State);
    assert_eq!(given.state.len(), MAX_STATE + 1);
    assert_open(&client, given);
    // Nothing of it was sent.
    assert!(!old.route_has_sent());
}

#[tokio::test]
async fn each_session_arrives_with_its_own_state() {
    let old = Old::start();
    let mut new = New::start(&old.theirs);
    new.web.adopts(&[CHAT, Protocol::HTTP]);
    let mut clients = Vec::new();
    let mut givings = Vec::new();
    for i in 0..200_usize {
        let (client, mut given) = match i % 3 {
            0 => connection("web", b""),
            // As large as they may be, so that a message has no room for two.
            1 if i % 50 == 1 => session("chat", 2, &vec![i as u8; MAX_STATE]),
            _ => session("chat", 2, &vec![i as u8; i * 7]),
        };
        given.unread = vec![!(i as u8); if i % 50 == 1 { 32 * 1024 } else { i }];
        let route = old.route.clone();
        givings.push(tokio::spawn(async move { route.give(given).await }));
        clients.push(client);
    }
    for _ in 0..200 {
        let parcel = new.arrival().await.claim().await;
        // Its last byte tells which it is.
        let i = parcel.unread.last().map_or(0, |byte| usize::from(!byte));
        assert!(parcel.unread.iter().all(|byte| *byte == !(i as u8)));
        if i % 3 == 0 {
            assert_eq!(parcel.protocol, Protocol::HTTP);
            assert!(parcel.state.is_empty());
        } else {
            assert_eq!(parcel.protocol, Protocol::new("chat", 2));
            let largest = i % 3 == 1 && i % 50 == 1;
            let long = if largest { MAX_STATE } else { i * 7 };
            assert!(parcel.state == vec![i as u8; long], "{i}");
        }
    }
    for giving in givings {
        moved(giving).await;
    }
}

#[tokio::test]
async fn a_protocol_that_was_not_declared_is_refused() {
    let old = Old::start();
    let mut new = New::start(&old.theirs);
    new.web.adopts(&[CHAT]);
    let undeclared = [("chat", 1), ("chat", 4), ("chess", 2), ("", 0)];
    // Refused as they are looked at, by who waits for one that is declared.
    let arrival = tokio::spawn(async move { new.arrival().await.claim().await });
    for (name, version) in undeclared {
        let (client, given) = session(name, version, b"state");
        let given = timeout(BOUND, old.route.give(given)).await.unwrap();
        let (given, why) = given.expect_err("nobody reads it");
        assert_eq!(why, Stays::RefusedProtocol);
        assert_eq!(given.state, b"state");
        assert_open(&client, given);
    }
    let (_client, given) = session("chat", 3, b"state");
    let given = timeout(BOUND, old.route.give(given)).await.unwrap();
    assert!(given.is_ok());
    let parcel = arrival.await.unwrap();
    assert_eq!(parcel.protocol, Protocol::new("chat", 3));
}

#[tokio::test]
async fn a_name_that_nobody_listens_by_is_refused() {
    let old = Old::start();
    let _new = New::start(&old.theirs);
    let (client, given) = connection("admin", b"");
    let given = timeout(BOUND, old.route.give(given)).await.unwrap();
    let (given, why) = given.expect_err("nobody has it");
    assert_eq!(why, Stays::RefusedListener);
    assert_open(&client, given);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_nobody_serves_refuses_after_a_moment() {
    let old = Old::start();
    let new = New::start(&old.theirs);
    let idle = new.adopters.register("idle");
    let (client, given) = connection("idle", b"");
    let began = tokio::time::Instant::now();
    let given = old.route.give(given).await;
    assert_eq!(began.elapsed().as_millis() / 100, 10);
    let (given, why) = given.expect_err("nobody serves it");
    assert_eq!(why, Stays::RefusedUnserved);
    assert_open(&client, given);
    // Served in time, it is adopted.
    let (_client, given) = connection("idle", b"");
    let route = old.route.clone();
    let giving = tokio::spawn(async move { route.give(given).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    idle.adopts(&[Protocol::HTTP]);
    let mut idle = idle;
    let parcel = poll_fn(|cx| idle.poll(cx)).await.claim().await;
    moved(giving).await;
    drop(parcel);
    // One that was dropped refuses at once.
    drop(idle);
    let (client, given) = connection("idle", b"");
    let began = tokio::time::Instant::now();
    let given = old.route.give(given).await;
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_open(&client, given.expect_err("nobody serves it").0);
}

/// Nobody has read yet that it has gone.
#[tokio::test]
async fn what_cannot_be_sent_has_failed_and_comes_back() {
    let (_link, _graceful, route, theirs) = link(false);
    // Not only dropped: for a moment a child that another test forks has all that is open here.
    rustix::net::shutdown(theirs.as_fd(), rustix::net::Shutdown::Both).unwrap();
    drop(theirs);
    let (client, given) = connection("web", b"x");
    let (given, why) = timeout(BOUND, route.give(given))
        .await
        .unwrap()
        .expect_err("nobody is there");
    assert_eq!((why, &*given.unread), (Stays::Failed, &b"x"[..]));
    assert_open(&client, given);
}

#[tokio::test]
async fn an_older_successor_gives_everything_back() {
    let old = Old::start();
    let (client, giving) = old.give(b"x");
    let (_, _, fds) = connections(&old.theirs).await.unwrap();
    drop(fds);
    let what = "connections".to_owned();
    old.theirs.try_send(&Message::Unknown { what }).unwrap();
    let (given, why) = back_for(giving).await;
    assert_eq!(why, Stays::NoTaker);
    assert_open(&client, given);
    assert!(!old.route.is_open());
    // It serves on, and is still watched.
    assert!(!old.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_silent_successor_is_killed() {
    let old = Old::start();
    let (client, giving) = old.give(b"x");
    let began = tokio::time::Instant::now();
    let (given, _) = giving.await.unwrap().expect_err("nobody took it");
    assert!(began.elapsed() >= PATIENCE);
    assert!(began.elapsed() < PATIENCE * 2);
    assert_open(&client, given);
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(died(old).await.signal(), Some(9));
}

/// A predecessor that was itself held up, by a debugger or a busy host, finds the answers and the
/// time limit at the same moment.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_not_read_in_time_counts() {
    for _ in 0..20 {
        let (mut link, _graceful, route, theirs) = link(false);
        let (_client, given) = connection("web", b"");
        let giving = tokio::spawn(async move { route.give(given).await });
        let (records, ..) = connections(&theirs).await.unwrap();
        let ids = records.iter().map(|record| record.id).collect();
        theirs.try_send(&Message::Claimed { ids }).unwrap();
        advance(PATIENCE + Duration::from_secs(1)).await;
        let watching = timeout(Duration::from_secs(1), link.ended()).await;
        assert!(watching.is_err(), "{watching:?}");
        moved(giving).await;
    }
}

/// A message that cannot be read is no end: its sender may claim in the next.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_back_from_who_sends_nonsense() {
    let (link, _graceful, route, theirs) = link(false);
    let ended = tokio::spawn(watch(link));
    let (_client, given) = connection("web", b"");
    let giving = tokio::spawn(async move { route.give(given).await });
    let (records, ..) = connections(&theirs).await.unwrap();
    theirs.try_send_raw(b"nonsense").unwrap();
    let ids = records.iter().map(|record| record.id).collect();
    theirs.try_send(&Message::Claimed { ids }).unwrap();
    moved(giving).await;
    assert!(!ended.is_finished());
}

#[tokio::test]
async fn without_a_generation_everything_is_refused() {
    let old = Old::start();
    let (client, giving) = old.give(b"x");
    let (records, _, fds) = connections(&old.theirs).await.unwrap();
    let ids = records.iter().map(|record| record.id).collect();
    Answers::new(old.theirs.clone()).refuse(ids, Stays::RefusedListener);
    drop(fds);
    assert_open(&client, back(giving).await);
}

/// The connection was cut while it waited for its answer: nothing of it is left here afterwards.
#[tokio::test]
async fn nobody_waits_and_the_answer_still_closes_it() {
    let old = Old::start();
    let (mut client, giving) = old.give(b"");
    let (records, _, fds) = connections(&old.theirs).await.unwrap();
    giving.abort();
    let _ = giving.await;
    let ids = records.iter().map(|record| record.id).collect();
    let why = String::new();
    old.theirs.try_send(&Message::Refused { ids, why }).unwrap();
    drop(fds);
    let read = tokio::task::spawn_blocking(move || client.read(&mut [0]).unwrap());
    assert_eq!(read.await.unwrap(), 0);
}

impl Old {
    /// Whether the channel still holds what was sent.
    fn route_has_sent(&self) -> bool {
        let fd = rustix::event::PollFd::from_borrowed_fd(
            self.theirs.as_fd(),
            rustix::event::PollFlags::IN,
        );
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut [fd], Some(&now)).unwrap() > 0
    }
}

fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

/// In a process of its own, since the limit is all its threads'.
#[test]
fn fewer_descriptors_than_records() {
    const CHILD: &str = "HANDOVER_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let test = "moving::tests::fewer_descriptors_than_records";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let old = Old::start();
        let given: Vec<_> = (0..50).map(|i| old.give(&[i; 100])).collect();
        while !old.route_has_sent() {
            tokio::task::yield_now().await;
        }
        // Every free number up to the highest is taken, and then there are 20 more.
        let mut fillers = vec![std::fs::File::open("/dev/null").unwrap()];
        let highest = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<i32>())
            .max_by_key(|number| number.clone().unwrap_or(0))
            .unwrap()
            .unwrap();
        use std::os::fd::AsRawFd as _;
        while fillers.last().unwrap().as_raw_fd() <= highest {
            fillers.push(fillers[0].try_clone().unwrap());
        }
        let current = fillers.last().unwrap().as_raw_fd() as u64 + 1 + 20;
        let limit = getrlimit(Resource::Nofile);
        let current = Some(current);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        let mut new = New::start(&old.theirs);
        let mut parcels = Vec::new();
        for _ in 0..20 {
            parcels.push(new.arrival().await.claim().await);
        }
        let (mut here, mut there) = (0, 0);
        for (i, (client, giving)) in given.into_iter().enumerate() {
            match timeout(BOUND, giving).await.unwrap().unwrap() {
                Ok(()) => there += 1,
                Err((given, why)) => {
                    assert_eq!(given.unread, [i as u8; 100]);
                    assert_eq!(why, Stays::RefusedDescriptors);
                    assert_open(&client, given);
                    here += 1;
                }
            }
        }
        assert_eq!((there, here), (20, 30));
        for (i, parcel) in parcels.iter().enumerate() {
            assert_eq!(parcel.unread, [i as u8; 100]);
        }
    });
}
