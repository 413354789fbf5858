use super::*;

const SHARES: [Ratio; 4] = [Ratio::percent(60), Ratio::percent(80), Ratio::ONE, Ratio::ONE];

fn of(criticality: Criticality) -> Ask {
    Ask { criticality, share: SHARES[criticality as usize], ..Ask::default() }
}

fn come(gate: &Gate, criticality: Criticality) -> Entry {
    gate.enter(of(criticality), untimed)
}

#[test]
fn the_lower_a_class_the_earlier_it_is_refused() {
    let let_in = |class| {
        let gate = gate(10, 0);
        let mut count = 0;
        while let Entry::Admitted(_) = come(&gate, class) {
            count += 1;
        }
        (count, refused(come(&gate, class)))
    };

    assert_eq!(let_in(Criticality::Sheddable), (6, Refusal::Shed));
    assert_eq!(let_in(Criticality::SheddablePlus), (8, Refusal::Shed));
    assert_eq!(let_in(Criticality::Critical), (10, Refusal::Full));
    assert_eq!(let_in(Criticality::CriticalPlus), (10, Refusal::Full));
}

#[test]
fn the_queue_is_room_as_well() {
    let gate = gate(5, 5);
    let _inside: Vec<_> = (0..5).map(|_| admitted(come(&gate, Criticality::Critical))).collect();

    let _place = waiting(come(&gate, Criticality::Sheddable));

    assert_eq!(refused(come(&gate, Criticality::Sheddable)), Refusal::Shed);
    let _plus = waiting(come(&gate, Criticality::SheddablePlus));
}

#[test]
fn an_idle_service_serves_everybody() {
    let gate = gate(1, 0);

    let seat = admitted(come(&gate, Criticality::Sheddable));

    assert_eq!(refused(come(&gate, Criticality::Sheddable)), Refusal::Full);
    gate.leave(seat);
    assert_eq!(refused(come(&Gate::new(0), Criticality::Sheddable)), Refusal::Full);
}

#[test]
fn a_newcomer_takes_the_place_of_the_last_of_the_least_critical() {
    let gate = gate(1, 3);
    let whole = |criticality| Ask { criticality, ..Ask::default() };
    let seat = admitted(enter(&gate));
    let join = |class| waiting(gate.enter(whole(class), untimed));
    let first = join(Criticality::Sheddable);
    let second = join(Criticality::SheddablePlus);
    let third = join(Criticality::Sheddable);
    let woken = Arc::new(Woken::default());
    assert!(gate.poll(&third, &Waker::from(Arc::clone(&woken))).is_none());

    let fourth = join(Criticality::Critical);
    assert_eq!(woken.count(), 1);
    assert!(matches!(poll(&gate, &third), Some(Outcome::Refused(Refusal::Shed))));
    let fifth = join(Criticality::Critical);
    assert!(matches!(poll(&gate, &first), Some(Outcome::Refused(Refusal::Shed))));
    let sixth = join(Criticality::CriticalPlus);
    assert!(matches!(poll(&gate, &second), Some(Outcome::Refused(Refusal::Shed))));

    // Among equals who came first stays.
    assert_eq!(refused(gate.enter(whole(Criticality::Critical), untimed)), Refusal::Full);
    // And all keep their turns.
    gate.leave(seat);
    for place in [fourth, fifth, sixth] {
        gate.leave(its_turn(&gate, &place));
    }
    assert_eq!(free(&gate), (3, 1));
}
