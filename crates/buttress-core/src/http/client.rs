use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use http::{HeaderMap, Request};

/// The proxies whose word is taken for where a request came from.
///
/// `X-Forwarded-For` is a list to which each proxy adds the address that it saw, and to which a
/// client can write what it likes before. So it is read from the right, for as long as the
/// addresses are those of proxies that are trusted: the first that is not is the client's.
///
/// ```
/// use buttress_core::http::TrustedProxies;
///
/// let proxies = TrustedProxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap();
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.2".parse().unwrap());
///
/// // The client made up the first; the second is what the outermost proxy saw.
/// let client = proxies.client("10.0.0.1".parse().unwrap(), &headers);
/// assert_eq!(client.to_string(), "203.0.113.7");
///
/// // Who is no proxy of ours speaks for itself.
/// let client = proxies.client("198.51.100.1".parse().unwrap(), &headers);
/// assert_eq!(client.to_string(), "198.51.100.1");
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Network]>);

impl TrustedProxies {
    /// Nobody: the client is whoever has connected.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of these networks, each an address or a prefix such as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// With the first that is neither.
    pub fn parse<'a>(
        networks: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ParseNetworkError> {
        networks.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The client of a request that came from `peer` with these headers.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let lists = headers.get_all(FORWARDED_FOR).iter().rev();
        for entry in lists.flat_map(|list| list.as_bytes().rsplit(|byte| *byte == b',')) {
            // What a proxy of ours has not written, nobody vouches for.
            let Some(address) = parse_address(entry) else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// An address, with or without a port.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    let address = text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let without_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
        bare.and_then(|bare| bare.parse().ok()).or_else(without_port)
    });
    address.map(|address: IpAddr| address.to_canonical())
}

/// The client of a request, for a limit on each: its address, or the 64 bits of prefix of an IPv6
/// address, of which one subscriber has 2^64. `None` where nothing says who has connected: such
/// requests share a key.
///
/// On axum serve the router with `into_make_service_with_connect_info::<SocketAddr>()`. Elsewhere
/// put a `SocketAddr` into the request's extensions.
///
/// ```
/// use buttress_core::http::{TrustedProxies, key};
///
/// let client = key::client_address(TrustedProxies::none());
///
/// let mut request = http::Request::new(());
/// assert_eq!(client(&request), None);
/// let peer: std::net::SocketAddr = "203.0.113.7:4711".parse().unwrap();
/// request.extensions_mut().insert(peer);
/// assert_eq!(client(&request), Some(peer.ip()));
/// ```
pub fn client_address<B>(
    proxies: TrustedProxies,
) -> impl Fn(&Request<B>) -> Option<IpAddr> + Clone {
    move |request| {
        let extensions = request.extensions();
        let plain = || extensions.get::<std::net::SocketAddr>().copied();
        let peer = crate::axum::peer(extensions).or_else(plain)?;
        Some(subscriber(proxies.client(peer.ip(), request.headers())))
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A network of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: u128,
    /// How many bits count, of 128.
    bits: u32,
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let differ = self.address ^ as_v6(address);
        differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
    }
}

/// Addresses of both kinds as numbers, those of IPv4 as mapped.
fn as_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let error = || ParseNetworkError(text.into());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let (most, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| error())?;
        if bits > most {
            return Err(error());
        }
        Ok(Self { address: as_v6(address), bits: before + bits })
    }
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNetworkError(String);

impl fmt::Display for ParseNetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address and no network; write it as 10.0.0.0/8", self.0)
    }
}

impl Error for ParseNetworkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, lists: &[&str]) -> String {
        let proxies = TrustedProxies::parse(trusted.iter().copied()).unwrap();
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_FOR, list.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_is_the_client() {
        let trusted = &["10.0.0.0/8", "192.0.2.1", "fd00::/8"];
        let cases: &[(&str, &[&str], &str)] = &[
            ("203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.9 ,10.9.9.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.9", "192.0.2.1"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["6.6.6.6,"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::7]:443"], "2001:db8::7"),
            ("fd00::1", &["2001:db8::7, [fd00::2]"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("11.0.0.1", &["203.0.113.9"], "11.0.0.1"),
            ("192.0.2.2", &["203.0.113.9"], "192.0.2.2"),
        ];

        for (peer, lists, expected) in cases {
            assert_eq!(client(trusted, peer, lists), *expected, "{peer} {lists:?}");
        }
    }

    #[test]
    fn all_addresses_of_a_kind_can_be_trusted_and_nonsense_is_told_what_to_write() {
        assert_eq!(client(&["0.0.0.0/0"], "9.9.9.9", &["8.8.8.8"]), "8.8.8.8");
        assert_eq!(client(&["0.0.0.0/0"], "2001:db8::1", &["8.8.8.8"]), "2001:db8::1");
        assert_eq!(client(&["::/0"], "9.9.9.9", &["8.8.8.8"]), "8.8.8.8");
        for text in ["", "10", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "host"] {
            let error = TrustedProxies::parse([text]).unwrap_err().to_string();
            assert!(error.contains("write it as"), "{error}");
        }
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_key() {
        let key = |text: &str| subscriber(text.parse().unwrap());

        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("203.0.113.8"), key("203.0.113.9"));
    }
}
