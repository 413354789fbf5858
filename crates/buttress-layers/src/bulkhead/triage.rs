use std::{fmt, sync::Arc};

use buttress_core::{Criticality, Ratio, bulkhead::Partitions};

/// Tells requests apart before they are admitted.
///
/// Made of closures by the methods of a [`BulkheadLayer`](super::BulkheadLayer).
pub trait Triage<Req>: Clone {
    /// Looks at a request.
    fn look(&self, request: &Req) -> Findings;
}

/// What a [`Triage`] says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// It takes no place.
    pub bypass: bool,
    /// The number of its partition.
    pub partition: Option<usize>,
    /// How critical it is, whatever its header says.
    pub criticality: Option<Criticality>,
}

/// All requests are alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everyone;

impl<Req> Triage<Req> for Everyone {
    #[inline]
    fn look(&self, _: &Req) -> Findings {
        Findings::default()
    }
}

/// Lets through what a closure says yes to.
#[derive(Clone, Copy)]
pub struct Bypass<F, T> {
    by: F,
    others: T,
}

/// Names the partition of a request.
#[derive(Clone)]
pub struct Divided<F, T> {
    by: F,
    partitions: Arc<Partitions>,
    others: T,
}

/// Says how critical a request is.
#[derive(Clone, Copy)]
pub struct Ranked<F, T> {
    by: F,
    others: T,
}

impl<F, T> Bypass<F, T> {
    pub(super) fn new(by: F, others: T) -> Self {
        Self { by, others }
    }
}

impl<F, T> Divided<F, T> {
    pub(super) fn new(by: F, partitions: Partitions, others: T) -> Self {
        Self { by, partitions: Arc::new(partitions), others }
    }
}

impl<F, T> Ranked<F, T> {
    pub(super) fn new(by: F, others: T) -> Self {
        Self { by, others }
    }
}

impl<Req, F, T> Triage<Req> for Bypass<F, T>
where
    F: Fn(&Req) -> bool + Clone,
    T: Triage<Req>,
{
    fn look(&self, request: &Req) -> Findings {
        let others = self.others.look(request);
        Findings { bypass: others.bypass || (self.by)(request), ..others }
    }
}

impl<Req, F, T> Triage<Req> for Divided<F, T>
where
    F: Fn(&Req) -> &'static str + Clone,
    T: Triage<Req>,
{
    fn look(&self, request: &Req) -> Findings {
        let partition = self.partitions.index((self.by)(request));
        Findings { partition, ..self.others.look(request) }
    }
}

impl<Req, F, T> Triage<Req> for Ranked<F, T>
where
    F: Fn(&Req) -> Option<Criticality> + Clone,
    T: Triage<Req>,
{
    fn look(&self, request: &Req) -> Findings {
        let others = self.others.look(request);
        Findings { criticality: (self.by)(request).or(others.criticality), ..others }
    }
}

impl<F, T: fmt::Debug> fmt::Debug for Bypass<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bypass").field("others", &self.others).finish_non_exhaustive()
    }
}

impl<F, T: fmt::Debug> fmt::Debug for Divided<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partitions, others, .. } = self;
        let mut debug = f.debug_struct("Divided");
        debug.field("partitions", partitions).field("others", others).finish_non_exhaustive()
    }
}

impl<F, T: fmt::Debug> fmt::Debug for Ranked<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranked").field("others", &self.others).finish_non_exhaustive()
    }
}

/// What is shed when, and where a request says how critical it is.
///
/// ```
/// use buttress_core::{Criticality, Ratio};
/// use buttress_layers::bulkhead::Shedding;
///
/// // Batch work is refused as soon as half of the room is taken.
/// let shedding = Shedding::new().share(Criticality::Sheddable, Ratio::percent(50)).propagate();
/// # let _ = shedding;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shedding {
    pub(super) header: &'static str,
    pub(super) propagate: bool,
    shares: [Ratio; Criticality::ALL.len()],
}

impl Shedding {
    /// Reads [`Criticality::HEADER`]; sheds what is sheddable when 60 % of all room, inside and in
    /// the queue, are taken, what is sheddable plus at 80 %, and the rest when there is none.
    #[must_use]
    pub const fn new() -> Self {
        // Ordinary traffic loses nothing when shedding is switched on; what is left of the room
        // for each class below it is a fifth of the whole.
        let shares = [Ratio::percent(60), Ratio::percent(80), Ratio::ONE, Ratio::ONE];
        Self { header: Criticality::HEADER, propagate: false, shares }
    }

    /// Refuses a class as soon as this share of all room is taken, be it one request.
    #[must_use]
    pub const fn share(mut self, class: Criticality, share: Ratio) -> Self {
        self.shares[class as usize] = share;
        self
    }

    /// Reads, and writes, another header.
    ///
    /// # Panics
    ///
    /// If `header` is no header name in lower case.
    #[must_use]
    pub fn header(mut self, header: &'static str) -> Self {
        // Here and not with the first request: a token of RFC 9110, less the capitals.
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        };
        assert!(
            !header.is_empty() && header.bytes().all(fits),
            "{header:?} is no header name in lower case; write it as x-criticality"
        );
        self.header = header;
        self
    }

    /// Writes how critical a request is into the header and the extensions of the request, for
    /// layers further in and for the next hop.
    #[must_use]
    pub const fn propagate(mut self) -> Self {
        self.propagate = true;
        self
    }

    #[inline]
    pub(super) const fn share_of(&self, class: Criticality) -> Ratio {
        self.shares[class as usize]
    }
}

impl Default for Shedding {
    fn default() -> Self {
        Self::new()
    }
}
