//! What every layer keeps to, one line per layer.
//!
//! | fault | caught by |
//! |---|---|
//! | `call` on an instance that was not found ready | `calls_the_readied_instance`, and on a clone by `keeps_clones_unready` |
//! | state made in `Layer::layer` | `has_one_state` |
//! | a permit, or any hold on the state, leaked on drop | `settles_once` |
//! | an error from `poll_ready` that is none of the inner service's | `refuses_in_call_only` |
//! | an outcome settled twice | `settles_once`, and a refusal counted twice by `has_one_state` |
//!
//! The others: `survives_panics`, `waits_to_be_woken`, `can_be_shared` and `passes_errors_on`.
//! What each of them tries is told in [`laws`].

use std::{
    future::{Ready, pending},
    num::NonZeroU32,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Auto, BoxError, Criticality, Plain, Raise, Rate, Ratio, TimeLimit,
    breaker::{BreakerLayer, Keyed, Refusal, Settings, Totals, Trip, Window},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    fallback::{FallbackLayer, StaleCache, StaleSettings},
    hedge::{Delay, HedgeLayer, Settings as Hedges, Switch},
    http::{StatusRules, key},
    rate_limit::{Keyed as KeyedBy, One, Plan, RateLimitLayer},
    retry::{InFlight, RetryLayer, Settings as Attempts, Tokens},
    sli::SliLayer,
    slo::{Objective, Part, Sli, SloLayer, SloTracker},
    throttle::{Settings as Rule, ThrottleLayer},
    timeout::{Clock, Limits, TimeoutLayer},
};
use buttress_redis::{FleetLimitLayer, Lease, MemoryStore, Outage, Settings as How};
use buttress_testkit::{
    Body,
    laws::{self, Settled, Subject, Violation},
};
use http::{Method, Request, Response};
use tower::Service;

obeys_the_contract! {
    timeout: TimeoutLayer::new("t", LIMIT);
    timeout_propagating: TimeoutLayer::new("t", LIMIT).propagate();
    timeout_of_streams: TimeoutLayer::new("t", Limits::streaming(LIMIT, LIMIT));
    timeout_raising: TimeoutLayer::new("t", LIMIT).on_reject(Raise);
    timeout_of_connecting: TimeoutLayer::connect("t", LIMIT);
    timeout_in_shadow: in_shadow(TimeoutLayer::new("t", LIMIT));
    breaker: BreakerLayer::new("b", patient());
    breaker_of_calls: BreakerLayer::new("b", patient_over(Window::calls(60_000)));
    breaker_in_a_row: BreakerLayer::new("b", Settings::new(Trip::consecutive(1_000_000)));
    breaker_judging: BreakerLayer::new("b", patient()).judge(StatusRules::DEFAULT);
    breaker_raising: BreakerLayer::new("b", patient()).on_reject(Raise);
    breaker_plain: BreakerLayer::new("b", patient()).exchange(Plain);
    breaker_keyed: BreakerLayer::new("b", patient()).keyed(key::route::<Body>);
    breaker_in_shadow: breaker_in_shadow();
    bulkhead: BulkheadLayer::new("b", ONE);
    bulkhead_queueing: BulkheadLayer::new("b", ONE).queue(4).wait(LIMIT);
    bulkhead_until_head: BulkheadLayer::new("b", ONE).queue(4).until_head();
    bulkhead_divided: BulkheadLayer::new("b", TWO).queue(4).partitions(halves(), |_: &_| "left");
    bulkhead_shedding: BulkheadLayer::new("b", ONE).queue(4).criticality(Shedding::new().propagate());
    bulkhead_of_aimd: BulkheadLayer::new("b", TWO).adaptive(Adaptive::aimd());
    bulkhead_of_gradient: BulkheadLayer::new("b", TWO).queue(4).adaptive(Adaptive::gradient2());
    bulkhead_bypassed: BulkheadLayer::new(BYPASSED, ONE).bypass(|_: &_| true);
    bulkhead_raising: BulkheadLayer::new("b", ONE).on_reject(Raise);
    bulkhead_judging: BulkheadLayer::new("b", TWO).adaptive(Adaptive::aimd()).judge(StatusRules::DEFAULT);
    bulkhead_plain: BulkheadLayer::new("b", ONE).exchange(Plain);
    bulkhead_in_shadow: shadowed(BulkheadLayer::new("b", ONE).queue(4));
    rate_limit: RateLimitLayer::new("r", ample());
    rate_limit_of_several: RateLimitLayer::several("r", [ample(), Rate::per_day(NonZeroU32::MAX)]);
    rate_limit_raising: RateLimitLayer::new("r", ample()).on_reject(Raise);
    rate_limit_plain: RateLimitLayer::new("r", ample()).exchange(Plain);
    rate_limit_by_cost: RateLimitLayer::new("r", ample()).cost(two);
    rate_limit_waiting: Admitting(RateLimitLayer::new("r", tight()).wait(LIMIT));
    rate_limit_keyed: ByKey(RateLimitLayer::new("r", ample()).keyed(method as fn(&Request<Body>) -> Method));
    rate_limit_keyed_waiting: ByKey(RateLimitLayer::new("r", tight()).keyed(method as fn(&Request<Body>) -> Method).wait(LIMIT));
    rate_limit_keyed_within: ByKey(RateLimitLayer::new("r", tight()).keyed(method as fn(&Request<Body>) -> Method).within([ample()]).wait(LIMIT));
    rate_limit_reserve: RateLimitLayer::new("r", ample()).reserve_for(NonZeroU32::MIN, Criticality::Critical);
    rate_limit_in_shadow: rate_limit_in_shadow();
    fleet_limit: Fleetwide::new(How::strict(), |limit| limit);
    fleet_limit_leased: Fleetwide::new(leased(), |limit| limit);
    fleet_limit_raising: Fleetwide::new(How::strict(), |limit| limit.on_reject(Raise));
    fleet_limit_plain: Fleetwide::new(leased(), |limit| limit.exchange(Plain));
    fleet_limit_without_store: fleet_limit_without_store();
    fleet_limit_in_shadow: fleet_limit_in_shadow();
    retry: RetryLayer::new("r", Attempts::default());
    retry_raising: RetryLayer::new("r", Attempts::default()).on_reject(Raise);
    retry_plain_head: RetryLayer::new("r", Attempts::plain().attempt_timeout(LIMIT));
    retry_once: RetryLayer::new("r", Attempts::default().attempts(1));
    retry_by_tokens: RetryLayer::new("r", Attempts::default().budget(Tokens::new(10)));
    retry_in_flight: RetryLayer::new("r", Attempts::default().budget(InFlight::new(Ratio::ONE)));
    retry_in_shadow: retry_in_shadow();
    hedge: HedgeLayer::new("h", Hedges::default());
    hedge_later: HedgeLayer::new("h", Hedges::new(Delay::fixed(LIMIT.get())));
    hedge_at_once: HedgeLayer::new("h", Hedges::new(Delay::at_once()));
    hedge_by_tokens: HedgeLayer::new("h", Hedges::default().budget(Tokens::new(10)));
    hedge_of_four: HedgeLayer::new("h", Hedges::new(Delay::fixed(LIMIT.get()))).extra::<4>();
    hedge_judging: HedgeLayer::new("h", Hedges::default()).judge(StatusRules::DEFAULT);
    hedge_switched_off: HedgeLayer::new("h", Hedges::new(Delay::at_once())).switch(off);
    hedge_in_shadow: hedge_in_shadow();
    throttle: ThrottleLayer::new("t", lenient());
    throttle_raising: ThrottleLayer::new("t", lenient()).on_reject(Raise);
    throttle_plain: ThrottleLayer::new("t", lenient()).exchange(Plain);
    fallback: FallbackLayer::new("f");
    fallback_declining: FallbackLayer::new("f").function_sync(|_, _| None::<Response<Body>>);
    fallback_storing: FallbackLayer::new("f").stale(StaleCache::new(StaleSettings::new().longest(Duration::ZERO)));
    fallback_probing: FallbackLayer::new("f").stale(StaleCache::new(StaleSettings::new().probe_alone().entries(0)));
    fallback_failing: FallbackLayer::new("f").service(Closed);
    fallback_waiting: FallbackLayer::new("f").function(|_, _| pending::<Option<Response<Body>>>()).within(LIMIT);
    fallback_judging: FallbackLayer::new("f").judge(StatusRules::DEFAULT).function_sync(|_, _| None::<Response<Body>>);
    fallback_plain: FallbackLayer::new("f").exchange(Plain).function_sync(|(), _| None::<Response<Body>>);
    fallback_in_shadow: fallback_in_shadow(FallbackLayer::new("f").value(|| Response::new(Body::empty())));
    sli_server: SliLayer::server("s");
    sli_client: SliLayer::client("c");
    sli_late: SliLayer::server("s").late_after(LIMIT);
    sli_plain: SliLayer::client("c").exchange(Plain);
    slo_server: SloLayer::server("s", &objectives());
    slo_client: SloLayer::client("c", &objectives());
}

const LIMIT: TimeLimit = TimeLimit::from_secs(5);

/// A breaker that sees all these calls fail and stays closed.
fn patient() -> Settings {
    patient_over(Window::time(TimeLimit::from_secs(30)))
}

fn patient_over(window: Window) -> Settings {
    Settings::new(Trip::failure_rate(Ratio::ONE).over(window).minimum(60_000))
}

/// A breaker that would have opened.
fn breaker_in_shadow() -> BreakerLayer {
    let layer = BreakerLayer::new("b", Settings::consecutive(1));
    layer.handle().set_shadow(true);
    layer
}

fn retry_in_shadow() -> RetryLayer {
    let layer = RetryLayer::new("r", Attempts::default());
    layer.handle().set_shadow(true);
    layer
}

fn hedge_in_shadow() -> HedgeLayer {
    let layer = HedgeLayer::new("h", Hedges::new(Delay::at_once()));
    layer.handle().set_shadow(true);
    layer
}

#[expect(clippy::unnecessary_wraps, reason = "as a switch has it")]
fn off(_: &Request<Body>) -> Option<Switch> {
    Some(Switch::Off)
}

const ONE: NonZeroU32 = NonZeroU32::MIN;
/// The name of a layer that every request bypasses, and which so refuses none.
const BYPASSED: &str = "bypassed";
const TWO: NonZeroU32 = ONE.saturating_add(1);

fn halves() -> Partitions {
    Partitions::new().share("left", Ratio::percent(50)).share("right", Ratio::percent(50))
}

fn shadowed(layer: BulkheadLayer) -> BulkheadLayer {
    layer.handle().set_shadow(true);
    layer
}

/// A throttle that sees all these calls fail and refuses none.
fn lenient() -> Rule {
    Rule::new().allowance(1_000_000)
}

fn in_shadow(layer: TimeoutLayer) -> TimeoutLayer {
    layer.handle().set_shadow(true);
    layer
}

/// A rate that all these calls keep to.
fn ample() -> Rate {
    Rate::per_second(NonZeroU32::new(1_000_000).unwrap())
}

/// A rate at which nearly all calls have to wait.
fn tight() -> Rate {
    Rate::per_second(NonZeroU32::new(100).unwrap()).burst(NonZeroU32::MIN)
}

fn two(_: &Request<Body>) -> NonZeroU32 {
    NonZeroU32::new(2).unwrap()
}

fn method(request: &Request<Body>) -> Method {
    request.method().clone()
}

/// A rate limit that would have refused nearly all.
fn rate_limit_in_shadow() -> Admitting {
    let layer = RateLimitLayer::new("r", tight());
    layer.handle().set_shadow(true);
    Admitting(layer)
}

/// Of all calls, and of the fast ones.
fn objectives() -> SloTracker {
    let named =
        |name: &str, sli| Objective::new(name.parse().unwrap(), sli, "99.9%".parse().unwrap());
    let fast = Sli::Latency { within: LIMIT, part: Part::Total };
    let objectives = [named("up", Sli::Availability), named("fast", fast)];
    SloTracker::new("shop".parse().unwrap(), objectives).unwrap()
}

/// What can be read off a layer.
trait Told<L = Self>: Sized {
    fn told(self) -> Subject<L>;
}

/// It settles no call that it does not refuse.
impl<X> Told for TimeoutLayer<X> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let watched = Rc::clone(&handle);
        Subject::new(self)
            .refused(move || {
                let snapshot = handle.snapshot();
                let expired: u64 = Clock::ALL.iter().map(|clock| snapshot.expired(*clock)).sum();
                expired + snapshot.refused()
            })
            .released(move || watched.is_last())
    }
}

fn ended(totals: Totals) -> Settled {
    Settled { ended: totals.ended(), in_flight: 0 }
}

fn refused(totals: Totals) -> u64 {
    Refusal::ALL.iter().map(|why| totals.refused(*why)).sum()
}

/// It refuses every call once it is forced open.
impl<X> Told for BreakerLayer<X> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let [settled, counted, watched] = [(); 3].map(|()| Rc::clone(&handle));
        Subject::new(self)
            .settled(move || ended(settled.totals()))
            .refused(move || refused(counted.totals()))
            .released(move || watched.is_last())
            .exhaust(move || handle.force_open())
    }
}

/// All requests of these laws have one key.
impl<X, F> Told for BreakerLayer<X, Keyed<F>> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let watched = Rc::clone(&handle);
        Subject::new(self)
            .settled(move || ended(handle.totals()))
            .released(move || watched.is_last())
    }
}

/// It settles every call, and refuses every call when its limit is 0.
impl<X, T> Told for BulkheadLayer<X, T> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let [counted, refusing, watched] = [&handle, &handle, &handle].map(Rc::clone);
        let subject = Subject::new(self)
            .settled(move || {
                let now = handle.snapshot();
                // In shadow mode who would be refused is admitted as well.
                let refused = if handle.is_shadow() { 0 } else { now.all_refused() };
                Settled {
                    ended: now.finished() + refused + now.abandoned + now.bypassed,
                    in_flight: u64::from(now.in_flight + now.queued),
                }
            })
            .released(move || watched.is_last());
        if counted.name() == BYPASSED {
            return subject;
        }
        subject
            .refused(move || counted.snapshot().all_refused())
            .exhaust(move || refusing.set_limit(0))
    }
}

/// It refuses every call once its bucket has been emptied.
impl<X, C> Told for RateLimitLayer<X, Plan<One, C>> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let [counted, watched] = [(); 2].map(|()| Rc::clone(&handle));
        Subject::new(self)
            .refused(move || counted.totals().all_refused())
            .released(move || watched.is_last())
            .exhaust(move || handle.drain())
    }
}

/// A rate limit that refuses none of these calls: they wait, or it is in shadow mode.
struct Admitting(RateLimitLayer);

impl Told<RateLimitLayer> for Admitting {
    fn told(self) -> Subject<RateLimitLayer> {
        let handle = self.0.handle();
        Subject::new(self.0).released(move || handle.is_last())
    }
}

fn leased() -> How {
    How::leased(Lease::new(NonZeroU32::new(8).unwrap()))
}

/// A limit of a fleet, on a store in memory, without which it refuses every call.
struct Fleetwide<X>(FleetLimitLayer<MemoryStore, X>, MemoryStore);

impl<X> Fleetwide<X> {
    fn new(
        settings: How,
        surface: impl FnOnce(FleetLimitLayer<MemoryStore>) -> FleetLimitLayer<MemoryStore, X>,
    ) -> Self {
        let (settings, store) = (settings.outage(Outage::Closed), MemoryStore::new());
        Self(surface(FleetLimitLayer::new("f", ample(), settings, store.clone())), store)
    }
}

impl<X> Told<FleetLimitLayer<MemoryStore, X>> for Fleetwide<X> {
    fn told(self) -> Subject<FleetLimitLayer<MemoryStore, X>> {
        let Self(layer, store) = self;
        let handle = Rc::new(layer.handle());
        let watched = Rc::clone(&handle);
        Subject::new(layer)
            .refused(move || handle.totals().all_refused())
            .released(move || watched.is_last())
            .exhaust(move || store.fail())
    }
}

/// A limit of a fleet that refuses none of these calls.
struct Unlimited(FleetLimitLayer<MemoryStore>);

impl Told<FleetLimitLayer<MemoryStore>> for Unlimited {
    fn told(self) -> Subject<FleetLimitLayer<MemoryStore>> {
        let handle = self.0.handle();
        Subject::new(self.0).released(move || handle.is_last())
    }
}

fn fleet_limit_without_store() -> Unlimited {
    let store = MemoryStore::new();
    store.fail();
    Unlimited(FleetLimitLayer::new("f", tight(), How::strict().outage(Outage::Open), store))
}

fn fleet_limit_in_shadow() -> Unlimited {
    let layer = FleetLimitLayer::new("f", tight(), How::strict(), MemoryStore::new());
    layer.handle().set_shadow(true);
    Unlimited(layer)
}

/// A rate limit with keys: all requests of these laws have one.
struct ByKey(RateLimitLayer<Auto, ByMethod>);

type ByMethod = Plan<KeyedBy<Method, fn(&Request<Body>) -> Method>>;

impl Told<RateLimitLayer<Auto, ByMethod>> for ByKey {
    fn told(self) -> Subject<RateLimitLayer<Auto, ByMethod>> {
        let handle = self.0.handle();
        Subject::new(self.0).released(move || handle.is_last())
    }
}

/// It settles no call, and refuses none that others would not.
impl<X> Told for RetryLayer<X> {
    fn told(self) -> Subject<Self> {
        let watched = self.handle();
        let attempts = if watched.is_shadow() { None } else { watched.settings().most_attempts() };
        Subject::new(self).released(move || watched.is_last()).attempts(attempts.unwrap_or(1))
    }
}

/// It refuses nothing, and settles nothing but what it sent itself.
impl<X, T, const N: usize> Told for HedgeLayer<X, T, N> {
    fn told(self) -> Subject<Self> {
        let watched = self.handle();
        Subject::new(self).released(move || watched.is_last())
    }
}

fn fallback_in_shadow<L, X>(layer: FallbackLayer<L, X>) -> FallbackLayer<L, X> {
    layer.handle().set_shadow(true);
    layer
}

/// A service that fails before it is ready.
#[derive(Clone, Copy, Debug)]
struct Closed;

impl Service<Request<Body>> for Closed {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("closed".into()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// It settles no call, and refuses none. None of these has an answer, or the failures of the laws
/// would not be seen.
impl<L, X> Told for FallbackLayer<L, X> {
    fn told(self) -> Subject<Self> {
        let watched = self.handle();
        Subject::new(self).released(move || watched.is_last())
    }
}

/// It settles what passes, but for what is dropped before its response.
impl<X> Told for ThrottleLayer<X> {
    fn told(self) -> Subject<Self> {
        let watched = self.handle();
        Subject::new(self).released(move || watched.is_last())
    }
}

/// It refuses nothing.
impl<X> Told for SliLayer<X> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let watched = Rc::clone(&handle);
        Subject::new(self)
            .settled(move || Settled {
                ended: handle.counts().total(),
                in_flight: handle.snapshot().in_flight,
            })
            .released(move || watched.is_last())
    }
}

/// As the SLI layer that it is.
impl<X> Told for SloLayer<X> {
    fn told(self) -> Subject<Self> {
        let handle = Rc::new(self.handle());
        let watched = Rc::clone(&handle);
        Subject::new(self)
            .settled(move || Settled {
                ended: handle.counts().total(),
                in_flight: handle.snapshot().in_flight,
            })
            .released(move || watched.is_last())
    }
}

/// Makes a module of tests for each layer, one for each law.
macro_rules! obeys_the_contract {
    ($($name:ident: $layer:expr;)*) => {
        $(mod $name {
            use super::*;

            obeys_the_contract! { @laws $layer =>
                calls_the_readied_instance
                keeps_clones_unready
                settles_once
                survives_panics
                refuses_in_call_only
                waits_to_be_woken
                can_be_shared
                has_one_state
                passes_errors_on
            }
        })*
    };
    (@laws $layer:expr => $($law:ident)*) => {
        $(#[test]
        fn $law() -> Result<(), Violation> {
            laws::$law(|| Told::told($layer))
        })*
    };
}
use obeys_the_contract;
