//! One client address, from whom we may believe.
//!
//! Source of the rules: better-auth 1.7, packages/better-auth/src/utils/get-request-ip.ts; golden data in
//! `tests/golden/client-ip.json`. The gateway applies the same rules one hop earlier, so that what it sends on is one address.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use ipnet::IpNet;

/// Where a client's address is read from, and which hops are believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Headers looked at, first usable one wins.
    pub headers: Vec<String>,
    /// Hops that are believed. Without any, only a header with exactly one address counts.
    pub trusted: Vec<IpNet>,
    /// Bits of an IPv6 address that tell clients apart.
    pub ipv6_bits: u8,
    /// `disableIpTracking`.
    pub disabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            headers: vec!["x-forwarded-for".into()],
            trusted: Vec::new(),
            ipv6_bits: 64,
            disabled: false,
        }
    }
}

impl Settings {
    /// The client's address as the headers tell it; `None` when they tell none that may be believed.
    pub fn read(&self, headers: &HeaderMap) -> Option<IpAddr> {
        if self.disabled {
            return None;
        }
        self.headers
            .iter()
            .find_map(|name| self.read_one(headers, name))
    }

    /// Whether a hop is believed.
    pub fn trusts(&self, hop: IpAddr) -> bool {
        let hop = hop.to_canonical();
        self.trusted.iter().any(|net| net.contains(&hop))
    }

    fn read_one(&self, headers: &HeaderMap, name: &str) -> Option<IpAddr> {
        // Several lines are one list.
        let mut hops = headers
            .get_all(name)
            .iter()
            .rev()
            .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        if self.trusted.is_empty() {
            let only = hops.next()?;
            return if hops.next().is_some() {
                None
            } else {
                parse(only)
            };
        }
        for hop in hops {
            // A hop nobody can read hides all that is left of it.
            let hop = parse(hop)?;
            if !self.trusts(hop) {
                return Some(hop);
            }
        }
        None
    }

    /// An address as the framework writes it: IPv6 in full and cut to the configured bits.
    pub fn write(&self, address: IpAddr) -> String {
        match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.ipv6_bits.min(128)))
                    .unwrap_or(0);
                let words = Ipv6Addr::from_bits(address.to_bits() & mask).segments();
                words.map(|word| format!("{word:04x}")).join(":")
            }
        }
    }
}

/// A bare address: no port, no zone, no brackets. IPv4 inside IPv6 is IPv4.
fn parse(text: &str) -> Option<IpAddr> {
    text.trim()
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}
