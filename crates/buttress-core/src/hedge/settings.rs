use std::time::Instant;

use super::{Delay, Quantile, Unhedged};
use crate::{
    Code, Facts, Method, Protocol, Ratio,
    retry::{self, Budget},
};

/// What is hedged, after what delay, and who pays for it.
///
/// ```
/// use buttress_core::{Code, Ratio, hedge::{Quantile, Settings}, retry};
///
/// let retries = retry::Settings::default().codes([Code::Unavailable, Code::Aborted]);
/// // Whatever is retried, as long as that is, and from the same budget.
/// let hedges = Settings::new(Quantile::new(Ratio::percent(99))).like(&retries).call("/shop.Shop/Find");
///
/// assert!(hedges.of_budget().is_same(retries.of_budget()));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    delay: Delay,
    /// What may be sent twice, what has failed, and who pays.
    rules: retry::Settings,
    /// The gRPC methods that may be hedged, in order; `None` for all of them.
    calls: Option<Box<[Box<str>]>>,
}

/// Whether a request is hedged, said by whoever makes it.
///
/// An extension of a request, or what a closure says of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// It may be sent twice, whatever its method.
    On,
    /// It is sent once.
    Off,
}

impl Settings {
    /// Hedges after this delay what a retry would send again, with the budget that a retry has
    /// unless told otherwise: a fifth of the requests of the last ten seconds, and ten a second.
    pub fn new(delay: impl Into<Delay>) -> Self {
        Self { delay: delay.into(), rules: retry::Settings::default(), calls: Some(Box::default()) }
    }

    /// Hedges what these retries send again, counts as a failure what they do, keeps as much of a
    /// body, and spends from their budget.
    pub fn like(mut self, retries: &retry::Settings) -> Self {
        self.rules = retries.clone();
        self
    }

    /// When a second attempt is made.
    pub fn delay(mut self, delay: impl Into<Delay>) -> Self {
        self.delay = delay.into();
        self
    }

    /// Who pays. Clone one budget into all retries and hedges that call the same service.
    pub fn budget(mut self, budget: impl Into<Budget>) -> Self {
        self.rules = self.rules.budget(budget);
        self
    }

    /// How many bytes of a request's body are kept to be sent again: 64 KiB unless told otherwise.
    /// A longer one is sent once.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.rules = self.rules.body_limit(bytes);
        self
    }

    /// The gRPC codes that are retried, and so are no answer as long as another attempt is under
    /// way: `UNAVAILABLE` and whatever else is judged bad.
    pub fn codes(mut self, codes: impl IntoIterator<Item = Code>) -> Self {
        self.rules = self.rules.codes(codes);
        self
    }

    /// Hedges this method too, which HTTP does not promise to be idempotent. An `Idempotency-Key`
    /// on a request does it for that request.
    pub fn method(mut self, method: Method) -> Self {
        self.rules = self.rules.method(method);
        self
    }

    /// Hedges this gRPC method, as in `/shop.Shop/Find`, of which only who wrote it knows that it
    /// does no harm twice. A code says that of a call which has failed; a hedge knows no code yet.
    /// A request of tonic's own type does not know its method: give it a [`Switch`], or a
    /// [`Route`](crate::Route).
    ///
    /// # Panics
    ///
    /// If it is not of that form: it would never be found.
    pub fn call(mut self, method: &str) -> Self {
        let parts = method.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        let is_path = parts.is_some_and(|(service, name)| {
            !service.is_empty() && !name.is_empty() && !name.contains('/')
        });
        assert!(is_path, "{method:?} is no gRPC method; write \"/package.Service/Method\"");
        if let Some(calls) = self.calls.take() {
            let mut calls = calls.into_vec();
            calls.push(method.into());
            calls.sort_unstable();
            self.calls = Some(calls.into());
        }
        self
    }

    /// Hedges all gRPC methods of a service that only reads, say.
    pub fn all_calls(mut self) -> Self {
        self.calls = None;
        self
    }

    /// When a second attempt is made.
    pub fn of_delay(&self) -> &Delay {
        &self.delay
    }

    /// Who pays.
    #[must_use]
    pub fn of_budget(&self) -> &Budget {
        self.rules.of_budget()
    }

    /// How many bytes of a body are kept.
    #[must_use]
    pub fn of_body(&self) -> usize {
        self.rules.of_body()
    }

    /// What has failed, and what is retried.
    pub fn rules(&self) -> &retry::Settings {
        &self.rules
    }

    /// Whether a request may be sent twice at all. `keyed` says whether it has an
    /// `Idempotency-Key`, `route` which gRPC method it calls.
    ///
    /// # Errors
    ///
    /// [`Unhedged::Off`] or [`Unhedged::Method`].
    pub fn allows<'a>(
        &self,
        facts: Facts,
        switch: Option<Switch>,
        keyed: impl FnOnce() -> bool,
        route: impl FnOnce() -> Option<&'a str>,
    ) -> Result<(), Unhedged> {
        if self.delay.is_never() {
            return Err(Unhedged::Off);
        }
        let allowed = match (switch, facts.protocol) {
            (Some(Switch::Off), _) => return Err(Unhedged::Off),
            // Who has a service of unknown requests hedged has thought of that.
            (Some(Switch::On), _) | (None, Protocol::Plain) => true,
            (None, Protocol::Http) => self.rules.repeats(facts.method) || keyed(),
            (None, Protocol::Grpc) => {
                let named = |calls: &[Box<str>]| {
                    let found = |name| calls.binary_search_by(|call| (**call).cmp(name)).is_ok();
                    !calls.is_empty() && route().is_some_and(found)
                };
                self.calls.as_deref().is_none_or(named) || keyed()
            }
        };
        if allowed { Ok(()) } else { Err(Unhedged::Method) }
    }

    /// Takes over what `others` have learned, if it can be of use here and nothing has been
    /// learned here yet: a quantile of the latencies of a window of the same length.
    pub fn inheriting(mut self, others: &Self) -> Self {
        self.delay = self.delay.inheriting(&others.delay);
        self
    }

    /// The latency of a first attempt, or how long it took at least when it was given up, or
    /// failed.
    #[inline]
    pub fn learn(&self, took: std::time::Duration, answered: bool, now: Instant) {
        self.delay.learn(took, answered, now);
    }
}

impl Default for Settings {
    /// One request in twenty at the most: what takes longer than 95 in a hundred do.
    fn default() -> Self {
        Self::new(Quantile::new(Ratio::percent(95)))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn facts(protocol: Protocol, method: Method) -> Facts {
        Facts { protocol, method, status: None, code: None }
    }

    fn allowed(settings: &Settings, facts: Facts, keyed: bool) -> Result<(), Unhedged> {
        settings.allows(facts, None, || keyed, || Some("/shop.Shop/Find"))
    }

    #[test]
    fn of_http_what_is_idempotent_is_hedged_or_has_a_key() {
        let settings = Settings::default();
        let [get, post] = [Method::Get, Method::Post].map(|m| facts(Protocol::Http, m));

        assert_eq!(allowed(&settings, get, false), Ok(()));
        assert_eq!(allowed(&settings, post, false), Err(Unhedged::Method));
        assert_eq!(allowed(&settings, post, true), Ok(()));
        assert_eq!(allowed(&settings.method(Method::Post), post, false), Ok(()));
    }

    #[test]
    fn of_grpc_only_what_is_named_is_hedged() {
        let call = facts(Protocol::Grpc, Method::Post);
        let settings = Settings::default();

        assert_eq!(allowed(&settings, call, false), Err(Unhedged::Method));
        let others = settings.clone().call("/shop.Shop/Buy").call("/shop.Shop/List");
        assert_eq!(allowed(&others, call, false), Err(Unhedged::Method));
        assert_eq!(allowed(&others.call("/shop.Shop/Find"), call, false), Ok(()));
        assert_eq!(allowed(&settings.all_calls(), call, false), Ok(()));
    }

    #[test]
    fn who_makes_the_request_has_the_last_word_but_for_whom_never_hedges() {
        let [get, post] = [Method::Get, Method::Post].map(|m| facts(Protocol::Http, m));
        let says = |settings: &Settings, facts, switch| {
            settings.allows(facts, Some(switch), || false, || None)
        };
        let settings = Settings::default();

        assert_eq!(says(&settings, get, Switch::Off), Err(Unhedged::Off));
        assert_eq!(says(&settings, post, Switch::On), Ok(()));
        let never = settings.delay(Delay::never());
        assert_eq!(says(&never, post, Switch::On), Err(Unhedged::Off));
    }

    #[test]
    #[should_panic(expected = "write \"/package.Service/Method\"")]
    fn a_method_without_its_service_is_told_so() {
        let _ = Settings::default().call("Find");
    }
}
