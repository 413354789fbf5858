use std::fmt;

/// How much is lost when a request is refused: what is shed first under pressure.
///
/// The four classes of Google's *Site Reliability Engineering*, chapter 21. They order from what
/// goes first to what goes last, and travel with a request from hop to hop, so that every layer
/// of every service sheds the same work.
///
/// ```
/// use buttress_core::Criticality;
///
/// assert!(Criticality::Sheddable < Criticality::CriticalPlus);
/// assert_eq!(Criticality::parse(b"sheddable_plus"), Some(Criticality::SheddablePlus));
/// assert_eq!(Criticality::default().as_str(), "critical");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Criticality {
    /// May be refused often, and for long: batch work that is tried again.
    Sheddable,
    /// May be refused now and then: work that can be done later.
    SheddablePlus,
    /// Users see it when it is refused. What a request is that says nothing of itself.
    #[default]
    Critical,
    /// Users see it, and it matters most to them.
    CriticalPlus,
}

impl Criticality {
    /// All classes, each at the place of its number, from what is shed first to what is shed last.
    pub const ALL: [Self; 4] =
        [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// The header in which it travels, unless another is chosen.
    pub const HEADER: &'static str = "x-criticality";

    /// The value of the header, and of a `criticality` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable_plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical_plus",
        }
    }

    /// Reads a header's value, in capitals or not, with `_` or `-`. Anything else is `None`, and
    /// is to be taken for a request that says nothing.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let same = |name: &str| {
            let plain = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
            value.iter().map(plain).eq(name.bytes())
        };
        Self::ALL.into_iter().find(|class| same(class.as_str()))
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request that may say how critical it is: HTTP, tonic's and reqwest's do.
///
/// ```
/// use buttress_core::{Criticality, SaysCriticality};
///
/// let mut request = http::Request::new(());
/// assert_eq!(request.criticality(Criticality::HEADER), None);
/// request.headers_mut().insert(Criticality::HEADER, "sheddable".parse().unwrap());
/// assert_eq!(request.criticality(Criticality::HEADER), Some(Criticality::Sheddable));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has nowhere to say how critical it is",
    note = "implement `SaysCriticality` for it, or decide with a closure of your own"
)]
pub trait SaysCriticality {
    /// What a layer further out has found out, or what the header of that name says.
    fn criticality(&self, header: &'static str) -> Option<Criticality>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_read_back_and_stands_at_its_number() {
        for (number, class) in Criticality::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
            assert_eq!(Criticality::parse(class.as_str().as_bytes()), Some(class));
        }
        assert!(Criticality::ALL.is_sorted());
    }

    #[test]
    fn capitals_and_hyphens_are_read_and_nonsense_is_not() {
        assert_eq!(Criticality::parse(b"CRITICAL-PLUS"), Some(Criticality::CriticalPlus));
        for nonsense in ["", "critical ", "criticalplus", "urgent", "critical_plus_plus"] {
            assert_eq!(Criticality::parse(nonsense.as_bytes()), None, "{nonsense:?}");
        }
    }
}
