//! The argument of `--listen`.

use std::{convert::Infallible, fmt, str::FromStr};

/// `ADDR` or `NAME=ADDR`; what an address looks like is left to who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listen {
    /// The name, if one was given.
    pub name: Option<String>,
    /// `127.0.0.1:8080`, `[::1]:0`, `unix:/path`.
    pub address: String,
}

impl Listen {
    /// The name, or else the address, which then is the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

impl FromStr for Listen {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A path may hold an equals sign; a name comes before any of `:`, `/` and `[`.
        Ok(match text.split_once('=') {
            Some((name, address)) if !name.contains([':', '/', '[']) => Self {
                name: Some(name.into()),
                address: address.into(),
            },
            _ => Self {
                name: None,
                address: text.into(),
            },
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_precedes_the_address() {
        let parse = |text: &str| text.parse::<Listen>().unwrap();
        assert_eq!(parse("http=127.0.0.1:0").name(), "http");
        assert_eq!(parse("http=127.0.0.1:0").address, "127.0.0.1:0");
        assert_eq!(parse("[::1]:0").name(), "[::1]:0");
        assert_eq!(parse("unix:/tmp/a=b").address, "unix:/tmp/a=b");
        assert_eq!(parse("x=unix:/tmp/a=b").address, "unix:/tmp/a=b");
    }
}
