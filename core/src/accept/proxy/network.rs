//! A network of IP addresses.

use std::{error::Error, fmt, net::IpAddr, str::FromStr};

/// A network of IP addresses, read as `10.0.0.0/8`, `fd00::/8`, or a single address.
///
/// # Examples
///
/// ```
/// use handover::accept::Network;
///
/// let balancers: Network = "10.1.0.0/16".parse()?;
/// assert!(balancers.contains("10.1.2.3".parse()?));
/// // As a listener of both families sees the same host.
/// assert!(balancers.contains("::ffff:10.1.2.3".parse()?));
/// assert!(!balancers.contains("10.2.0.1".parse()?));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

impl Network {
    /// Returns true if the address is of this network. An IPv4 address may be written as an IPv6
    /// one.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| wrong())?,
            None => most,
        };
        let first = match bits {
            // An IPv4 address that was written as an IPv6 one, and nothing but that.
            96.. if first.is_ipv6() && first.to_canonical().is_ipv4() => {
                let first = first.to_canonical();
                return (bits <= 128)
                    .then(|| Self {
                        first,
                        bits: bits - 96,
                    })
                    .ok_or_else(wrong);
            }
            _ => first,
        };
        (bits <= most)
            .then_some(Self { first, bits })
            .ok_or_else(wrong)
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let first = address.to_canonical();
        let bits = if first.is_ipv4() { 32 } else { 128 };
        Self { first, bits }
    }
}

/// A text is not a network.
///
/// # Examples
///
/// ```
/// use handover::accept::{Network, NotANetwork};
///
/// let wrong: Result<Network, NotANetwork> = "10.0.0.0/33".parse();
/// println!("trusted_proxies: {}", wrong.unwrap_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANetwork(String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no network: write it as 10.0.0.0/8 or fd00::/8",
            self.0
        )
    }
}

impl Error for NotANetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_its_own() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/16", "10.1.255.255", "10.2.2.3"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "fe80::1", "127.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("192.0.2.128/25", "::ffff:192.0.2.200", "192.0.2.127"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(
                network.contains(inside.parse().unwrap()),
                "{network:?} {inside}"
            );
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{network:?} {outside}"
            );
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "localhost/8",
            "10.0.0.0/-1",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
