//! A network between a server and its clients, for what the loopback device is too fast to show.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Network namespaces with a delay line between them: the clients', and those of one or more servers.
///
/// A request across it meets whatever the server did during the last round trip, as on a real
/// network: that is when closing an idle connection costs a request. Needs root, `ip`, `python3` and
/// `/dev/net/tun`; `tests/network/delay_line.py` is the line itself. The namespaces go when this is
/// dropped, also if this process is killed.
#[derive(Debug)]
pub struct DelayLine {
    client: End,
    servers: Vec<End>,
    line: Child,
}

/// What a [`DelayLine`] does to packets beside delaying them. Fine by default: nothing.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Weather {
    /// The most that a packet is later than it should be.
    pub jitter: Duration,
    /// The share of packets that are lost, from 0 to 1.
    pub loss: f64,
    /// The share of packets that overtake others.
    pub reorder: f64,
    /// Where the chances come from.
    pub seed: u64,
}

impl Weather {
    /// As bad as a mobile network on a bad day: 5 ms of jitter, one packet of a hundred lost, two out
    /// of order.
    #[must_use]
    pub fn bad(seed: u64) -> Self {
        Self {
            jitter: Duration::from_millis(5),
            loss: 0.01,
            reorder: 0.02,
            seed,
        }
    }

    fn words(&self) -> [String; 4] {
        [
            format!("jitter={}", self.jitter.as_secs_f64() * 1000.0),
            format!("loss={}", self.loss),
            format!("reorder={}", self.reorder),
            format!("seed={}", self.seed),
        ]
    }
}

/// One side of a [`DelayLine`].
#[derive(Debug)]
pub struct End {
    namespace: File,
    address: IpAddr,
}

impl DelayLine {
    /// Lays a line to one server that takes `each_way` from one end to the other.
    ///
    /// # Errors
    ///
    /// If this machine does not let us; says what is missing.
    pub fn lay(each_way: Duration) -> anyhow::Result<Self> {
        Self::lay_to(1, each_way)
    }

    /// The same where packets are lost, late, or overtake one another.
    ///
    /// # Errors
    ///
    /// As [`lay`](Self::lay).
    pub fn lay_in(weather: Weather, each_way: Duration) -> anyhow::Result<Self> {
        Self::lay_all(1, each_way, weather)
    }

    /// The same to several servers, each in a namespace of its own.
    ///
    /// # Errors
    ///
    /// As [`lay`](Self::lay).
    pub fn lay_to(servers: u8, each_way: Duration) -> anyhow::Result<Self> {
        Self::lay_all(servers, each_way, Weather::default())
    }

    fn lay_all(servers: u8, each_way: Duration, weather: Weather) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("network/delay_line.py");
        let mut line = Command::new("python3")
            .arg(script)
            .arg((each_way.as_secs_f64() * 1000.0).to_string())
            .arg(servers.to_string())
            .args(weather.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start python3 for the delay line")?;
        let mut ends = String::new();
        let stdout = line.stdout.take().context("stdout is no pipe")?;
        BufReader::new(stdout).read_line(&mut ends)?;
        let words: Vec<&str> = ends.split_whitespace().collect();
        let (&[client, at_client], servers) = match words.split_first_chunk() {
            Some((client, servers)) if servers.len() >= 2 => (client, servers),
            _ => {
                let status = line.wait()?;
                bail!("there is no delay line ({status}): it needs root, ip and /dev/net/tun");
            }
        };
        let servers = servers.chunks_exact(2);
        let servers = servers.map(|words| End::open(words[0], words[1]));
        Ok(Self {
            client: End::open(client, at_client)?,
            servers: servers.collect::<anyhow::Result<_>>()?,
            line,
        })
    }

    /// The side of the server, or of the first.
    #[must_use]
    pub fn server(&self) -> &End {
        &self.servers[0]
    }

    /// The sides of all servers.
    #[must_use]
    pub fn servers(&self) -> &[End] {
        &self.servers
    }

    /// The clients' side.
    #[must_use]
    pub fn client(&self) -> &End {
        &self.client
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        // The end of its stdin is what it waits for.
        drop(self.line.stdin.take());
        let _ = self.line.wait();
    }
}

impl End {
    fn open(name: &str, address: &str) -> anyhow::Result<Self> {
        let path = Path::new("/run/netns").join(name);
        let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let address = address.parse()?;
        Ok(Self { namespace, address })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Moves the calling thread here: the sockets that it opens, and the processes that it starts,
    /// from now on belong to this side. Leave no other work to that thread.
    ///
    /// # Errors
    ///
    /// If this process may not.
    pub fn enter(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the network namespace")
    }
}

/// A flood of half-open connections: SYNs of which no sender answers. Ends when this is dropped, or
/// after a few minutes.
///
/// Needs root; `tests/network/syn_flood.py` is what sends them.
#[derive(Debug)]
pub struct SynFlood {
    sender: Child,
}

impl SynFlood {
    /// Floods a server of a [`DelayLine`], from the side that the calling thread has
    /// [entered](End::enter). Returns once the first SYN is sent.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(server: SocketAddr) -> anyhow::Result<Self> {
        // More than a short queue holds until it forgets, and little for who carries the packets.
        let (per_second, count) = (100, 30_000);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("network/syn_flood.py");
        let mut sender = Command::new("python3")
            .arg(script)
            .arg(server.ip().to_string())
            .args([server.port().into(), per_second, count].map(|n: u32| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start python3 for the flood")?;
        let mut line = String::new();
        let stdout = sender.stdout.take().context("stdout is no pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("there is no flood ({}): it needs root", sender.wait()?);
        }
        Ok(Self { sender })
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        // The end of its stdin is what it waits for.
        drop(self.sender.stdin.take());
        let _ = self.sender.wait();
    }
}
