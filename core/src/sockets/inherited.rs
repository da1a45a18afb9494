//! The sockets that came from a predecessor or another program, until somebody asks for them.
//!
//! A socket keeps its place when others are taken, so that an index of names holds; with thousands
//! of sockets a search by comparing all names would cost more than all else in taking them over. So
//! would one by asking the kernel for the address of each, where the names are others: there is an
//! index of addresses too, from the first search by one on.

use std::{cell::OnceCell, collections::HashMap, net::SocketAddr, os::fd::OwnedFd};

use super::record::{self, Record};
use crate::Address;

/// In the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// `None` where it has been taken.
    places: Vec<Option<(Record, OwnedFd)>>,
    /// Where the sockets of a name are.
    by_name: HashMap<String, Vec<usize>>,
    /// And where those of an address are, once somebody has asked.
    by_address: OnceCell<HashMap<Address, Vec<usize>>>,
    left: usize,
}

impl Inherited {
    pub(crate) fn push(&mut self, record: Record, fd: OwnedFd) {
        let places = self.by_name.entry(record.name.clone()).or_default();
        places.push(self.places.len());
        self.by_address.take();
        self.places.push(Some((record, fd)));
        self.left += 1;
    }

    /// Those that nobody has taken yet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Record, OwnedFd)> {
        self.places.iter().flatten()
    }

    /// Those of a name.
    pub(crate) fn named<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (usize, &'a (Record, OwnedFd))> + use<'a> {
        self.at(self.by_name.get(name))
    }

    /// Those that are bound to an address.
    pub(crate) fn bound<'a>(
        &'a self,
        address: &Address,
    ) -> impl Iterator<Item = (usize, &'a (Record, OwnedFd))> + use<'a> {
        self.at(self.addresses().get(&plain(address)))
    }

    fn at<'a>(
        &'a self,
        places: Option<&'a Vec<usize>>,
    ) -> impl Iterator<Item = (usize, &'a (Record, OwnedFd))> {
        let places = places.into_iter().flatten();
        places.filter_map(|place| Some((*place, self.places[*place].as_ref()?)))
    }

    fn addresses(&self) -> &HashMap<Address, Vec<usize>> {
        self.by_address.get_or_init(|| {
            let mut by_address: HashMap<_, Vec<usize>> = HashMap::new();
            for (place, socket) in self.places.iter().enumerate() {
                let bound = socket.as_ref().map(|(_, fd)| record::address(fd));
                if let Some(Ok(bound)) = bound {
                    by_address.entry(plain(&bound)).or_default().push(place);
                }
            }
            by_address
        })
    }

    pub(crate) fn take(&mut self, place: usize) -> Option<(Record, OwnedFd)> {
        let taken = self.places.get_mut(place)?.take();
        self.left -= usize::from(taken.is_some());
        taken
    }

    /// How many nobody has taken yet.
    pub(crate) fn len(&self) -> usize {
        self.left
    }
}

/// Without what makes no other address of it: the zone of one of IPv6.
fn plain(address: &Address) -> Address {
    match address.as_socket_addr() {
        Some(addr) => Address::Tcp(SocketAddr::new(addr.ip(), addr.port())),
        None => address.clone(),
    }
}
