use std::{
    cell::Cell,
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
/// addresses are those of proxies that are trusted: the first that is not is the client's. The same
/// goes for [`Forwarded`](Self::forwarded).
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
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Arc<[Network]>,
    list: List,
    /// How many bits of an IPv6 address are one subscriber's.
    prefix: u32,
}

/// Where proxies write what they see. One that writes the one passes on the other as a client wrote
/// it, so never both are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    ForwardedFor,
    Forwarded,
}

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
        let networks = networks.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { networks, ..Self::default() })
    }

    /// Reads `Forwarded` ([RFC 7239](https://www.rfc-editor.org/rfc/rfc7239)) and not
    /// `X-Forwarded-For`: for proxies that write that. Whichever header yours do not write, a client
    /// may have.
    ///
    /// ```
    /// use buttress_core::http::TrustedProxies;
    ///
    /// let proxies = TrustedProxies::parse(["10.0.0.0/8"]).unwrap().forwarded();
    /// let mut headers = http::HeaderMap::new();
    /// let list = r#"for=1.1.1.1, for="[2001:db8::7]:4711";proto=https, for=10.0.0.2"#;
    /// headers.insert("forwarded", list.parse().unwrap());
    ///
    /// let client = proxies.client("10.0.0.1".parse().unwrap(), &headers);
    /// assert_eq!(client.to_string(), "2001:db8::7");
    /// ```
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        self.list = List::Forwarded;
        self
    }

    /// How many bits of an IPv6 address [`client_address`] goes by, 64 by default: of so many a
    /// subscriber has all that follow. Some are given 56 or 48, and so 256 or 65,536 keys.
    ///
    /// # Panics
    ///
    /// Of 0, and of more than 128.
    #[must_use]
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        assert!((1..=128).contains(&bits), "{bits} bits: an IPv6 prefix has 1 to 128");
        self.prefix = bits.into();
        self
    }

    /// The client of a request that came from `peer` with these headers.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let name = match self.list {
            List::ForwardedFor => FORWARDED_FOR,
            List::Forwarded => FORWARDED,
        };
        let lists = headers.get_all(name).iter().rev();
        for entry in lists.flat_map(|list| rsplit(list.as_bytes(), b',')) {
            // What a proxy of ours has not written, nobody vouches for.
            let address = match self.list {
                List::ForwardedFor => parse_address(entry),
                List::Forwarded => forwarded_for(entry),
            };
            let Some(address) = address else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self { networks: Arc::default(), list: List::ForwardedFor, prefix: 64 }
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";

/// The parts between separators that stand in no quoted string, the last one first. It is read
/// backwards because only the end was written by somebody whom we trust: a quote that a client
/// opens before it takes in nothing.
fn rsplit(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let mut quoted = false;
        for (at, byte) in bytes.iter().enumerate().rev() {
            if *byte == b'"' && !is_escaped(&bytes[..at]) {
                quoted = !quoted;
            } else if *byte == separator && !quoted {
                rest = Some(&bytes[..at]);
                return Some(&bytes[at + 1..]);
            }
        }
        rest = None;
        Some(bytes)
    })
}

fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Whom an element of `Forwarded` names: `for=192.0.2.43;proto=https`. Nobody if it is said twice,
/// or by a name that is no address.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in rsplit(element, b';').map(<[u8]>::trim_ascii) {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if name.eq_ignore_ascii_case(b"for") {
            let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            if found.replace(parse_address(bare.unwrap_or(value))?).is_some() {
                return None;
            }
        }
    }
    found
}

/// An address, with or without a port, which may be hidden.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    let address = text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let without_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
        bare.and_then(|bare| bare.parse().ok()).or_else(without_port)
    });
    let address = address.or_else(|| without_hidden_port(text));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The address before a port that is not told: `203.0.113.9:_x` (RFC 7239, 6.2).
fn without_hidden_port(text: &str) -> Option<IpAddr> {
    let (node, port) = text.rsplit_once(":_")?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if port.is_empty() || !port.bytes().all(is_name) {
        return None;
    }
    match node.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => node.parse().ok().map(IpAddr::V4),
    }
}

/// The client of a request, for a limit on each: its address, or the first
/// [64 bits](TrustedProxies::ipv6_prefix) of an IPv6 address, of which one subscriber has 2^64.
/// `None` where nothing says who has connected: such requests share a key. A rate limit whose key is
/// this and no more tells its observers of it, once.
///
/// On axum serve the router with `into_make_service_with_connect_info::<SocketAddr>()`. tonic's own
/// server says it by itself, which is read with the feature `tonic-transport`. Elsewhere put a
/// `SocketAddr` into the request's extensions.
///
/// Behind a proxy say which header it writes: `X-Forwarded-For`, or
/// [`Forwarded`](TrustedProxies::forwarded), and never both.
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
        let tonic = || crate::tonic_transport::peer(extensions);
        let peer = crate::axum::peer(extensions).or_else(plain).or_else(tonic);
        UNKNOWN.set(peer.is_none());
        Some(subscriber(proxies.client(peer?.ip(), request.headers()), proxies.prefix))
    }
}

thread_local! {
    /// Whether nobody had connected, of all that is known, when it was last asked for.
    static UNKNOWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether [`client_address`] found nobody when it was last asked on this thread, and that was after
/// this was. To be asked before and after a key is looked for.
#[must_use]
#[inline]
pub fn take_unknown() -> bool {
    UNKNOWN.take()
}

fn subscriber(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - prefix);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
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
        let key = |text: &str, prefix| subscriber(text.parse().unwrap(), prefix);

        assert_eq!(key("2001:db8:1:2:3:4:5:6", 64), key("2001:db8:1:2::1", 64));
        assert_ne!(key("2001:db8:1:2::1", 64), key("2001:db8:1:3::1", 64));
        assert_eq!(key("2001:db8:1:2::1", 56), key("2001:db8:1:3::1", 56));
        assert_ne!(key("2001:db8:1:2::1", 56), key("2001:db8:1:102::1", 56));
        assert_ne!(key("2001:db8::1", 128), key("2001:db8::2", 128));
        for prefix in [1, 64, 128] {
            assert_ne!(key("203.0.113.8", prefix), key("203.0.113.9", prefix));
        }
    }

    #[test]
    fn forwarded_is_read_in_place_of_the_other_header_and_never_with_it() {
        let ours = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
        let client = |lists: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, "7.7.7.7".parse().unwrap());
            for list in lists {
                headers.append(FORWARDED, list.parse().unwrap());
            }
            let peer = "10.0.0.1".parse().unwrap();
            assert_eq!(ours.client(peer, &headers).to_string(), "7.7.7.7");
            ours.clone().forwarded().client(peer, &headers).to_string()
        };
        let cases: &[(&[&str], &str)] = &[
            (&[], "10.0.0.1"),
            (&["for=203.0.113.9"], "203.0.113.9"),
            (&["for=6.6.6.6, For=203.0.113.9;proto=https;by=10.0.0.1"], "203.0.113.9"),
            (&["proto=http; FOR=\"203.0.113.9:4711\" , for=10.0.0.2"], "203.0.113.9"),
            (&["for=6.6.6.6", "for=\"[2001:db8::7]:443\"", "for=10.0.0.3"], "2001:db8::7"),
            (&["for=\"[2001:db8::7]\""], "2001:db8::7"),
            // A port can be hidden as well: RFC 7239, 6.2.
            (&["for=6.6.6.6, for=\"203.0.113.9:_x\""], "203.0.113.9"),
            (&["for=6.6.6.6, for=\"[2001:db8::7]:_a-1.b_\""], "2001:db8::7"),
            (&["for=6.6.6.6, for=\"203.0.113.9:_\""], "10.0.0.1"),
            (&["for=6.6.6.6, for=\"203.0.113.9:_a b\""], "10.0.0.1"),
            (&["for=6.6.6.6, for=\"203.0.113.9:80:_x\""], "10.0.0.1"),
            (&["for=6.6.6.6, for=\"2001:db8::7:_x\""], "10.0.0.1"),
            (&["for=6.6.6.6, for=\"_hidden:_x\""], "10.0.0.1"),
            // What a client opens before, or has a proxy quote, does not hide what follows.
            (&["for=\"6.6.6.6, for=203.0.113.9"], "203.0.113.9"),
            (&["for=6.6.6.6;host=\"a, for=203.0.113.9"], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"a\\\", for=6.6.6.6;x=\\\"\""], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"a, for=6.6.6.6\""], "203.0.113.9"),
            // Nobody vouches for what is hidden, missing or said twice.
            (&["for=6.6.6.6, for=unknown, for=10.0.0.2"], "10.0.0.2"),
            (&["for=6.6.6.6, for=_hidden"], "10.0.0.1"),
            (&["for=6.6.6.6, proto=https"], "10.0.0.1"),
            (&["for=6.6.6.6, for=8.8.8.8;for=9.9.9.9"], "10.0.0.1"),
            (&["for=6.6.6.6,"], "10.0.0.1"),
        ];

        for (lists, expected) in cases {
            assert_eq!(client(lists), *expected, "{lists:?}");
        }
    }
}
