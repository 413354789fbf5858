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

use std::rc::Rc;

use buttress::{
    Plain, Raise, TimeLimit,
    sli::SliLayer,
    timeout::{Clock, Limits, TimeoutLayer},
};
use buttress_testkit::laws::{self, Settled, Subject, Violation};

obeys_the_contract! {
    timeout: TimeoutLayer::new("t", LIMIT);
    timeout_propagating: TimeoutLayer::new("t", LIMIT).propagate();
    timeout_of_streams: TimeoutLayer::new("t", Limits::streaming(LIMIT, LIMIT));
    timeout_raising: TimeoutLayer::new("t", LIMIT).on_reject(Raise);
    timeout_of_connecting: TimeoutLayer::connect("t", LIMIT);
    timeout_in_shadow: in_shadow(TimeoutLayer::new("t", LIMIT));
    sli_server: SliLayer::server("s");
    sli_client: SliLayer::client("c");
    sli_late: SliLayer::server("s").late_after(LIMIT);
    sli_plain: SliLayer::client("c").exchange(Plain);
}

const LIMIT: TimeLimit = TimeLimit::from_secs(5);

fn in_shadow(layer: TimeoutLayer) -> TimeoutLayer {
    layer.handle().set_shadow(true);
    layer
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
