//! The sockets that came from a predecessor or another program, until somebody asks for them.
//!
//! A socket keeps its place when others are taken, so that an index of names holds; with thousands
//! of sockets a search by comparing all names would cost more than all else in taking them over.

use std::{collections::HashMap, os::fd::OwnedFd};

use super::record::Record;

/// In the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// `None` where it has been taken.
    places: Vec<Option<(Record, OwnedFd)>>,
    /// Where the sockets of a name are.
    by_name: HashMap<String, Vec<usize>>,
    left: usize,
}

impl Inherited {
    pub(crate) fn push(&mut self, record: Record, fd: OwnedFd) {
        let places = self.by_name.entry(record.name.clone()).or_default();
        places.push(self.places.len());
        self.places.push(Some((record, fd)));
        self.left += 1;
    }

    /// Those that nobody has taken yet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Record, OwnedFd)> {
        self.places.iter().flatten()
    }

    /// The same with their places.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &(Record, OwnedFd))> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, socket)| Some((place, socket.as_ref()?)))
    }

    /// Those of a name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &(Record, OwnedFd))> {
        let places = self.by_name.get(name).into_iter().flatten();
        places.filter_map(|place| Some((*place, self.places[*place].as_ref()?)))
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
