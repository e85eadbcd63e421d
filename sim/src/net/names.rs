//! The names of hosts.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Which address each host of a network has. Clones speak of the same network.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<BTreeMap<String, IpAddr>>>);

impl Names {
    /// Gives a host its address.
    pub fn insert(&self, host: &str, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), address);
    }

    /// The address of a host.
    pub(super) fn resolve(&self, host: &str) -> io::Result<IpAddr> {
        let address = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no host {host}")))
    }
}
