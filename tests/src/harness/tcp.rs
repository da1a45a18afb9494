//! What `/proc` says about a TCP connection, seen from the server's end.

use std::{collections::HashSet, fs, io, net::SocketAddrV4};

/// The server's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerEnd {
    /// Whether a process has accepted it; until then it waits in the kernel's queue.
    pub accepted: bool,
    /// Bytes that have arrived and were not read.
    pub unread: u64,
    /// Bytes that were written and that the client has not acknowledged.
    pub unsent: u64,
}

impl ServerEnd {
    /// Looks for the connection from `client` to `server`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If `/proc/net/tcp` cannot be read.
    pub fn find(server: SocketAddrV4, client: SocketAddrV4) -> io::Result<Option<Self>> {
        let text = fs::read_to_string("/proc/net/tcp")?;
        // After a load there are thousands of lines about connections that have ended.
        let both = format!(" {} {} ", in_proc(server), in_proc(client));
        let found = text.split_once(&both);
        Ok(found.and_then(|(_, rest)| Self::parse(rest)))
    }

    /// Reads what follows the addresses.
    fn parse(rest: &str) -> Option<Self> {
        let mut fields = rest.split_whitespace();
        let _state = fields.next()?;
        let (unsent, unread) = fields.next()?.split_once(':')?;
        // The timer, retransmissions, the user, the timeout.
        let inode = fields.nth(4)?;
        Some(Self {
            accepted: inode != "0",
            unread: u64::from_str_radix(unread, 16).ok()?,
            unsent: u64::from_str_radix(unsent, 16).ok()?,
        })
    }
}

/// How many established connections a process has a descriptor of; what else it has open does not
/// count.
///
/// # Errors
///
/// If the process is gone, or `/proc` cannot be read.
pub fn established(pid: u32) -> io::Result<usize> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp")?;
    let rows = table.lines().map(|row| row.split_whitespace());
    let inodes: HashSet<String> = rows
        .filter_map(|mut row| (row.nth(3)? == ESTABLISHED).then(|| row.nth(5))?)
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let names = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(names
        .filter(|name| inodes.contains(&*name.to_string_lossy()))
        .count())
}

/// As the kernel writes it: the address as a number of this host, in hex.
fn in_proc(address: SocketAddrV4) -> String {
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => panic!("{address}"),
        }
    }

    #[test]
    fn accepted_and_unread_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = v4(listener.local_addr().unwrap());
        let mut client = TcpStream::connect(server).unwrap();
        let of = v4(client.local_addr().unwrap());
        let find = || ServerEnd::find(server, of).unwrap().unwrap();
        client.write_all(b"hello").unwrap();
        assert_eq!((find().accepted, find().unread), (false, 5));
        let accepted = listener.accept().unwrap();
        assert_eq!((find().accepted, find().unread), (true, 5));
        std::io::Read::read_exact(&mut &accepted.0, &mut [0; 5]).unwrap();
        assert_eq!((find().accepted, find().unread), (true, 0));
        let nobody = SocketAddrV4::new(*of.ip(), 1);
        assert_eq!(ServerEnd::find(server, nobody).unwrap(), None);
    }
}
