use std::{borrow::Cow, net::IpAddr, sync::Arc};

/// A key that names a bucket to all processes of a fleet alike.
///
/// Two keys that are different must write different bytes. What it writes stands in the store: of
/// what is secret or very long, write a hash.
///
/// ```
/// use buttress_redis::FleetKey;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Account(u64);
///
/// impl FleetKey for Account {
///     fn write(&self, out: &mut Vec<u8>) {
///         self.0.write(out);
///     }
/// }
///
/// let mut bytes = Vec::new();
/// (Account(7), "uploads").write(&mut bytes);
/// assert_eq!(bytes, b"1:7:uploads");
/// ```
pub trait FleetKey {
    /// Appends what it is called.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! as_bytes {
    ($($type:ty),*) => {
        $(impl FleetKey for $type {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(AsRef::<[u8]>::as_ref(self));
            }
        })*
    };
}
as_bytes!(str, String, [u8], Vec<u8>, http::HeaderValue);

macro_rules! as_text {
    ($($type:ty),*) => {
        $(impl FleetKey for $type {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.to_string().as_bytes());
            }
        })*
    };
}
as_text!(u8, u16, u32, u64, u128, usize, i32, i64, IpAddr);

impl FleetKey for http::Method {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl<T: FleetKey + ?Sized> FleetKey for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: FleetKey + ?Sized> FleetKey for Arc<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<T: FleetKey + ToOwned + ?Sized> FleetKey for Cow<'_, T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

/// `?` for none, and `=` before what there is.
impl<T: FleetKey> FleetKey for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(b'?'),
            Some(key) => {
                out.push(b'=');
                key.write(out);
            }
        }
    }
}

/// The first with its length, so that where it ends is clear.
impl<A: FleetKey, B: FleetKey> FleetKey for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        let mut first = Vec::new();
        self.0.write(&mut first);
        out.extend_from_slice(first.len().to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(&first);
        out.push(b':');
        self.1.write(out);
    }
}

/// The name of the bucket of a layer: `prefix:{name}`. What is in braces decides in which slot of
/// a cluster it lies.
pub(crate) fn whole(prefix: &str, name: &str) -> Vec<u8> {
    let mut out = format!("{prefix}:{{").into_bytes();
    for byte in name.bytes() {
        match byte {
            // What would end the name, or the braces.
            b'%' | b':' | b'{' | b'}' => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'}');
    out
}

/// The name of the bucket of a key of a layer: `prefix:{name:key}`.
pub(crate) fn of(whole: &[u8], key: &impl FleetKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(whole.len() + 64);
    out.extend_from_slice(&whole[..whole.len() - 1]);
    out.push(b':');
    key.write(&mut out);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_buckets_share_a_name() {
        let names = ["a", "a:b", "a:b:c", "a}b", "a%3Ab", ""];
        let keys = ["", "b", "b:c", "c", "}"];

        let mut all: Vec<Vec<u8>> = Vec::new();
        for name in names {
            let whole = whole("p", name);
            all.extend(keys.iter().map(|key| of(&whole, key)));
            all.push(whole);
        }
        let count = all.len();
        all.sort();
        all.dedup();

        assert_eq!(all.len(), count);
        assert_eq!(whole("buttress", "a:b"), b"buttress:{a%3Ab}");
    }
}
