mod meter;

use std::{sync::Arc, time::Duration};

use tower::{
    layer::util::Identity, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer,
};

use self::meter::{Fault, MeterLayer};
use super::*;

/// The laws that a layer breaks.
macro_rules! broken {
    ($fresh:expr) => {{
        let fresh = $fresh;
        let laws = [
            calls_the_readied_instance(&fresh),
            keeps_clones_unready(&fresh),
            settles_once(&fresh),
            survives_panics(&fresh),
            refuses_in_call_only(&fresh),
            waits_to_be_woken(&fresh),
            can_be_shared(&fresh),
            has_one_state(&fresh),
            passes_errors_on(&fresh),
        ];
        let violations = laws.into_iter().filter_map(Result::err);
        violations
            .inspect(|broken| println!("{broken}"))
            .map(|broken| broken.law())
            .collect::<Vec<_>>()
    }};
}

/// The laws that the meter breaks with a fault in it.
fn broken_by(fault: Fault) -> Vec<Law> {
    broken!(move || subject(fault))
}

fn subject(fault: Fault) -> Subject<MeterLayer> {
    let layer = MeterLayer::new(4, fault);
    let (meter, filled, refused) = (layer.meter(), layer.meter(), layer.meter());
    let watched = Arc::downgrade(&layer.meter());
    Subject::new(layer)
        .settled(move || meter.settled())
        .refused(move || refused.refused())
        .exhaust(move || filled.fill())
        .released(move || watched.strong_count() <= READERS)
}

/// Those of [`subject`] itself.
const READERS: usize = 3;

#[test]
fn a_meter_without_a_fault_breaks_no_law() {
    assert_eq!(broken_by(Fault::None), []);
}

#[test]
fn a_call_on_a_clone_is_caught() {
    let broken = broken_by(Fault::CallsAClone);

    assert_eq!(broken[..2], [Law::CallsTheReadiedInstance, Law::KeepsClonesUnready]);
}

#[test]
fn a_place_given_up_in_the_queue_is_caught() {
    let broken = broken_by(Fault::LosesItsPlace);

    assert!(broken.contains(&Law::CallsTheReadiedInstance), "{broken:?}");
}

#[test]
fn a_clone_that_thinks_it_is_ready_is_caught() {
    let broken = broken_by(Fault::ClonesReadiness);

    assert!(broken.contains(&Law::KeepsClonesUnready), "{broken:?}");
}

#[test]
fn a_permit_that_leaks_when_it_is_dropped_is_caught() {
    assert_eq!(broken_by(Fault::LeaksWhenDropped), [Law::SettlesOnce, Law::SurvivesPanics]);
}

#[test]
fn a_permit_that_leaks_is_caught_though_nothing_is_read_off_the_layer() {
    let fresh = || Subject::new(MeterLayer::new(4, Fault::LeaksWhenDropped));

    assert_eq!(settles_once(fresh).unwrap_err().law(), Law::SettlesOnce);
}

#[test]
fn an_outcome_that_counts_twice_is_caught() {
    let broken = broken_by(Fault::SettlesTwice);

    assert!(broken.contains(&Law::SettlesOnce), "{broken:?}");
}

#[test]
fn a_permit_that_leaks_by_a_panic_is_caught() {
    assert_eq!(broken_by(Fault::LeaksByPanics), [Law::SurvivesPanics]);
}

#[test]
fn a_panic_that_is_swallowed_is_caught() {
    assert_eq!(broken_by(Fault::SwallowsPanics), [Law::SurvivesPanics]);
}

#[test]
fn an_error_from_poll_ready_is_caught() {
    assert!(broken_by(Fault::RefusesWhenPolled).contains(&Law::RefusesInCallOnly));
}

#[test]
fn shedding_in_poll_ready_is_caught() {
    let broken = broken_by(Fault::ShedsWhenPolled);

    assert!(broken.contains(&Law::RefusesInCallOnly), "{broken:?}");
}

#[test]
fn a_loop_of_polls_is_caught() {
    assert_eq!(broken_by(Fault::WakesItself), [Law::WaitsToBeWoken]);
}

#[test]
fn polling_by_a_timer_is_caught() {
    assert_eq!(broken_by(Fault::PollsByATimer), [Law::WaitsToBeWoken]);
}

#[test]
fn a_lost_wake_up_is_caught() {
    let broken = broken_by(Fault::LosesWakeUps);

    assert_eq!(broken[0], Law::CallsTheReadiedInstance);
    assert!(broken.contains(&Law::WaitsToBeWoken), "{broken:?}");
}

#[test]
fn state_that_is_made_in_layer_is_caught_by_either_reader() {
    let settled = || {
        let layer = MeterLayer::new(4, Fault::StatePerService);
        let meter = layer.meter();
        Subject::new(layer).settled(move || meter.settled())
    };
    let released = || {
        let layer = MeterLayer::new(4, Fault::StatePerService);
        let watched = Arc::downgrade(&layer.meter());
        Subject::new(layer).released(move || watched.strong_count() == 0)
    };
    let refused = || {
        let layer = MeterLayer::new(4, Fault::StatePerService);
        let (meter, filled) = (layer.meter(), layer.meter());
        Subject::new(layer).refused(move || meter.refused()).exhaust(move || filled.fill())
    };

    for law in [has_one_state(settled), has_one_state(released), has_one_state(refused)] {
        assert_eq!(law.unwrap_err().law(), Law::HasOneState);
    }
}

#[test]
fn an_error_that_gets_lost_is_caught() {
    assert_eq!(broken_by(Fault::HidesErrors), [Law::PassesErrorsOn]);
}

#[test]
fn one_state_is_not_taken_on_trust() {
    assert!(has_one_state(|| Subject::new(Identity::new())).is_err());
}

#[test]
fn towers_own_layers_keep_the_laws_that_can_be_told() {
    // Off none of them anything can be read, so none can show that it has one state.
    let untold = [Law::HasOneState];

    assert_eq!(broken!(|| Subject::new(Identity::new())), untold);
    assert_eq!(broken!(|| Subject::new(ConcurrencyLimitLayer::new(1))), untold);
    assert_eq!(broken!(|| Subject::new(TimeoutLayer::new(Duration::from_secs(5)))), untold);
    assert_eq!(broken!(|| Subject::new(LoadShedLayer::new())), untold);
}

#[test]
fn a_violation_names_its_law_and_what_went_wrong() {
    let violation = calls_the_readied_instance(|| subject(Fault::CallsAClone)).unwrap_err();

    assert_eq!(
        violation.to_string(),
        "broken law: the instance that was found ready is the one called. \
         instance 3 was called, and had not been found ready"
    );
}
