//! After the probes, traffic comes back in a growing share.

use super::*;

const SEED: u64 = 7;

/// Recovering from 0 on, for 10 s, after one opening by itself.
fn recovering(settings: Settings) -> Rig {
    let mut rig = Rig::seeded(settings.probes(Probes::new(1)).ramp(seconds(10)), SEED);
    rig.open_until(0, 0);
    rig.run(0, [S]);
    assert_eq!(rig.state(0), State::Recovering);
    rig
}

#[test]
fn the_share_that_passes_grows_from_nothing_to_all() {
    const CALLS: u32 = 2_000;
    let mut rig = recovering(last(100, 100, HALF));
    assert!((0..100).all(|_| rig.admit(0).is_err()), "nothing passes at first");

    for tenth in 0..10_u64 {
        let (mut admitted, mut mean, mut variance) = (0_u32, 0.0, 0.0);
        for call in 0..u64::from(CALLS) {
            let millis = tenth * 1_000 + call * 1_000 / u64::from(CALLS);
            match rig.admit(millis) {
                Ok(ticket) => {
                    admitted += 1;
                    rig.settle(millis, ticket, S);
                }
                Err(refused) => {
                    assert_eq!(refused.why.as_str(), "recovering");
                    let left = Duration::from_millis(10_000 - millis);
                    assert_eq!(refused.retry_after, Some(left));
                }
            }
            let share = f64::from(u32::try_from(millis).unwrap()) / 10_000.0;
            mean += share;
            variance += share * (1.0 - share);
        }
        // A sum of independent draws, each with its own share.
        let off = (f64::from(admitted) - mean).abs();
        assert!(off < 4.0 * variance.sqrt(), "{admitted} for {mean} in tenth {tenth}, seed {SEED}");
    }

    assert_eq!(rig.state(9_999), State::Recovering);
    assert_eq!(rig.state(10_000), State::Closed);
    rig.run_many(10_000, 1_000, S);
    let [.., before, last] = &rig.told()[..] else { panic!("{:?}", rig.told()) };
    assert_eq!(before, "half_open -> recovering: the probes passed");
    assert_eq!(last, "recovering -> closed: the ramp is over");
}

#[test]
fn what_fails_on_the_ramp_opens_it_again_and_for_longer() {
    let open_for = OpenFor::fixed(seconds(5)).doubling();
    let mut rig = recovering(Settings::consecutive(2).open_for(open_for));
    let calls: Vec<_> = (0..1_000).filter_map(|_| rig.admit(5_000).ok()).take(2).collect();

    for ticket in calls {
        rig.settle(5_000, ticket, F);
    }

    assert_eq!((rig.state(5_000), rig.snapshot(5_000).openings), (State::Open, 2));
    assert_eq!(rig.refusal(5_000), ("open", Some(10_000)));
    assert_eq!(rig.told().last().unwrap(), "recovering -> open: 2 failures in a row");
}

#[test]
fn once_the_ramp_is_over_openings_count_from_one_whether_anybody_looked_or_not() {
    let open_for = OpenFor::fixed(seconds(5)).doubling();
    for looked in [true, false] {
        let mut rig = recovering(Settings::consecutive(1).open_for(open_for.clone()));
        let ticket = (0..1_000).find_map(|_| rig.admit(9_000).ok()).unwrap();
        if looked {
            assert_eq!(rig.state(10_000), State::Closed);
        }

        rig.settle(11_000, ticket, F);

        assert_eq!(rig.snapshot(11_000).openings, 1, "looked: {looked}");
        assert_eq!(rig.refusal(11_000), ("open", Some(5_000)), "looked: {looked}");
        assert_eq!(rig.told().last().unwrap(), "closed -> open: a failure");
    }
}

#[test]
fn without_a_ramp_everything_passes_at_once() {
    let mut rig = half_open(cbsm().probes(Probes::new(1)), 0);

    rig.run(0, [S]);
    rig.run_many(0, 100, S);

    assert_eq!((rig.state(0), rig.counts(0)), (State::Closed, (100, 100, 0)));
}
