use super::*;

/// Batch has three tenths, live seven.
fn divided(limit: u32, bound: u32, overcommit: bool) -> Gate {
    let shares =
        Partitions::new().share("batch", Ratio::percent(30)).share("live", Ratio::percent(70));
    let gate = gate(limit, bound);
    gate.divide(&if overcommit { shares.overcommit() } else { shares });
    gate
}

fn of(partition: usize) -> Ask {
    Ask { partition: Some(partition), ..Ask::default() }
}

const BATCH: usize = 0;
const LIVE: usize = 1;

fn come(gate: &Gate, partition: usize, now: Instant) -> Entry {
    gate.enter(of(partition), || now)
}

fn seats(gate: &Gate, partition: usize, count: u32, now: Instant) -> Vec<Seat> {
    (0..count).map(|_| admitted(come(gate, partition, now))).collect()
}

fn shares(gate: &Gate) -> Vec<(u32, u32)> {
    let mut shares = Vec::new();
    gate.parts(|_, guaranteed, inside, _| shares.push((guaranteed, inside)));
    shares
}

/// K06 (a), (d).
#[test]
fn what_is_idle_is_borrowed_up_to_the_limit() {
    let (gate, now) = (divided(10, 0, false), origin());

    let mut batch = seats(&gate, BATCH, 10, now);
    assert_eq!(shares(&gate), [(3, 10), (7, 0)]);
    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);

    gate.leave(batch.pop().unwrap());
    let _again = admitted(come(&gate, BATCH, now));
    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);
}

/// K06 (b), where nobody may wait.
#[test]
fn who_was_refused_within_its_share_gets_what_borrowers_give_back() {
    let (gate, now) = (divided(10, 0, false), origin());
    let mut batch = seats(&gate, BATCH, 10, now);

    for live in 1..=7 {
        assert_eq!(refused(come(&gate, LIVE, now)), Refusal::Full);
        gate.leave(batch.pop().unwrap());
        assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full, "it is kept for live");
        let _ = admitted(come(&gate, LIVE, now));
        assert_eq!(shares(&gate), [(3, 10 - live), (7, live)]);
        assert_eq!(gate.inside(), 10);
    }

    // (c)
    assert_eq!(refused(come(&gate, LIVE, now)), Refusal::Full);
    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);
}

/// K06 (b): a claim that nobody takes up lapses.
#[test]
fn a_place_is_kept_for_a_second_and_no_longer() {
    let (gate, now) = (divided(10, 0, false), origin());
    let mut batch = seats(&gate, BATCH, 10, now);
    assert_eq!(refused(come(&gate, LIVE, now)), Refusal::Full);
    gate.leave(batch.pop().unwrap());

    let almost = now + Duration::from_millis(999);
    assert_eq!(refused(come(&gate, BATCH, almost)), Refusal::Full);
    let _again = admitted(come(&gate, BATCH, now + Duration::from_secs(1)));
}

/// K06 (b), where they may wait.
#[test]
fn who_waits_within_its_share_comes_in_before_who_borrows() {
    let (gate, now) = (divided(10, 20, false), origin());
    let mut batch = seats(&gate, BATCH, 10, now);
    let borrowing: Vec<_> = (0..3).map(|_| waiting(come(&gate, BATCH, now))).collect();
    let live: Vec<_> = (0..8).map(|_| waiting(come(&gate, LIVE, now))).collect();

    for (returned, place) in live.iter().take(7).enumerate() {
        gate.leave(batch.pop().unwrap());
        let _ = its_turn(&gate, place);
        assert_eq!(gate.inside(), 10, "after {returned}");
    }
    assert_eq!(shares(&gate), [(3, 3), (7, 7)]);

    // Now both have their shares: batch that returns one is below its own.
    gate.leave(batch.pop().unwrap());
    assert!(poll(&gate, &live[7]).is_none());
    let _ = its_turn(&gate, &borrowing[0]);
}

/// K06 (b), (c), with `overcommit`.
#[test]
fn an_overcommitted_share_is_there_at_once() {
    let (gate, now) = (divided(10, 0, true), origin());
    let _batch = seats(&gate, BATCH, 10, now);

    let _live = seats(&gate, LIVE, 7, now);

    assert_eq!(gate.inside(), 17);
    assert_eq!(refused(come(&gate, LIVE, now)), Refusal::Full);
    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);
}

/// K06 (c).
#[test]
fn when_all_shares_are_in_use_both_are_refused() {
    let (gate, now) = (divided(10, 0, false), origin());
    let _inside = (seats(&gate, BATCH, 3, now), seats(&gate, LIVE, 7, now));

    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);
    assert_eq!(refused(come(&gate, LIVE, now)), Refusal::Full);
}

/// K06 (e).
#[test]
fn shares_follow_the_limit_and_who_is_inside_stays() {
    let (gate, now) = (divided(10, 0, false), origin());
    let _batch = seats(&gate, BATCH, 5, now);

    gate.set_limit(20);

    assert_eq!(shares(&gate), [(6, 5), (14, 0)]);
    assert_eq!(gate.inside(), 5);
}

#[test]
fn what_belongs_to_no_part_only_borrows() {
    let (gate, now) = (divided(10, 5, false), origin());
    let rest = (0..10).map(|_| admitted(gate.enter(Ask::default(), || now)));
    let mut rest: Vec<_> = rest.collect();
    let waiting_rest = waiting(gate.enter(Ask::default(), || now));
    let waiting_live = waiting(come(&gate, LIVE, now));

    gate.leave(rest.pop().unwrap());

    assert!(poll(&gate, &waiting_rest).is_none());
    let _ = its_turn(&gate, &waiting_live);
}

#[test]
fn a_queue_that_borrowers_have_filled_makes_room_for_who_is_within_its_share() {
    let (gate, now) = (divided(10, 2, false), origin());
    let _batch = seats(&gate, BATCH, 10, now);
    let first = waiting(come(&gate, BATCH, now));
    let last = waiting(come(&gate, BATCH, now));

    let live = waiting(come(&gate, LIVE, now));

    assert!(matches!(poll(&gate, &last), Some(Outcome::Refused(Refusal::Full))));
    assert!(poll(&gate, &first).is_none() && poll(&gate, &live).is_none());
    assert_eq!(refused(come(&gate, BATCH, now)), Refusal::Full);
}

#[test]
fn shares_of_more_than_the_whole_and_names_that_come_twice_are_refused() {
    let shares = || Partitions::new().share("live", Ratio::percent(70));

    let too_much = std::panic::catch_unwind(|| shares().share("batch", Ratio::percent(31)));
    let twice = std::panic::catch_unwind(|| shares().share("live", Ratio::percent(1)));

    assert!(too_much.is_err() && twice.is_err());
    assert_eq!(shares().share("batch", Ratio::percent(30)).index("batch"), Some(1));
}
