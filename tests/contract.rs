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

use std::{num::NonZeroU32, rc::Rc};

use buttress::{
    Plain, Raise, Ratio, TimeLimit,
    breaker::{BreakerLayer, Keyed, Refusal, Settings, Totals, Trip, Window},
    bulkhead::{Adaptive, BulkheadLayer, Partitions, Shedding},
    http::key,
    sli::SliLayer,
    slo::{Objective, Part, Sli, SloLayer, SloTracker},
    timeout::{Clock, Limits, TimeoutLayer},
};
use buttress_testkit::{
    Body,
    laws::{self, Settled, Subject, Violation},
};

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
    bulkhead_plain: BulkheadLayer::new("b", ONE).exchange(Plain);
    bulkhead_in_shadow: shadowed(BulkheadLayer::new("b", ONE).queue(4));
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

fn in_shadow(layer: TimeoutLayer) -> TimeoutLayer {
    layer.handle().set_shadow(true);
    layer
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
trait Told: Sized {
    fn told(self) -> Subject<Self>;
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
