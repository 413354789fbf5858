use loom::{sync::Arc, thread};

use super::*;

const MEDIAN: Ratio = Ratio::percent(50);

#[test]
fn loom_no_latency_is_lost_in_a_slice_nor_at_the_turn_to_the_next() {
    for (first, second, expected) in [(3, 3, 2), (3, 4, 2), (3, 11, 1)] {
        loom::model(move || {
            let cells = Arc::new(Cells::new(1, 1));
            let other = Arc::clone(&cells);
            let thread = thread::spawn(move || other.add(0, 0, first));
            cells.add(0, 0, second);
            thread.join().unwrap();

            let enough = |count| NonZeroU32::new(count).unwrap();
            assert_eq!(cells.quantile(second, MEDIAN, enough(expected)), Some(0));
            assert_eq!(cells.quantile(second, MEDIAN, enough(expected + 1)), None);
        });
    }
}

#[test]
fn loom_what_was_worked_out_for_an_older_slice_does_not_replace_a_newer_one() {
    loom::model(|| {
        let window = TimeLimit::from_secs(8);
        let slicer = Slicer::cutting(window, SLICES);
        let samples = Samples { window, slicer, cells: Cells::new(1, 1) };
        let latencies = Latencies::of(std::sync::Arc::new(samples), MEDIAN, NonZeroU32::MIN);
        let latencies = Arc::new(latencies);
        latencies.samples.cells.add(0, 0, 5);

        let other = Arc::clone(&latencies);
        let thread = thread::spawn(move || other.work_out(5));
        // By then what was counted is forgotten.
        assert_eq!(latencies.work_out(13), 0);
        thread.join().unwrap();

        assert_eq!(unpack(latencies.known.load(Ordering::Relaxed)), (13, 0));
    });
}
