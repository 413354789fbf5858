//! What a circuit breaker makes of an outage, in virtual time: `cargo run --example outage`.

mod scenario;

use std::time::Duration;

use buttress::TimeLimit;
use buttress_testkit::sim::Spell;

use scenario::{IN_TIME, OUTAGE, Row};

fn main() {
    let (from, to) = (OUTAGE.start.as_secs(), OUTAGE.end.as_secs());
    for (what, outage) in [("fails at once", Spell::Fails), ("hangs", Spell::Hangs)] {
        println!("A dependency that {what} from {from} s to {to} s, at 100 calls a second;");
        println!("a timeout of 1 s around everything.\n");
        let in_time = format!("told in {:?}", IN_TIME.get());
        println!(
            "{:<22} {:>13} {:>12} {:>12} {in_time:>14} {:>13}",
            "breaker", "reached it", "opened after", "closed after", "good of 12,000"
        );
        let mut pictures = Vec::new();
        for (name, breaker) in scenario::stacks() {
            let report = scenario::play(outage, breaker);
            let Row { reached, opened, closed, answered, good } = Row::of(&report);
            let percent = f64::from(answered.parts_per_billion()) / 1e7;
            println!(
                "{name:<22} {reached:>13} {:>12} {:>12} {:>14} {good:>13}",
                seconds(opened),
                seconds(closed),
                format!("{percent:.2} %"),
            );
            pictures.push((name, report.picture(TimeLimit::from_secs(2))));
        }
        for (name, picture) in pictures {
            println!("\n{name}\n{picture}");
        }
        println!();
    }
}

fn seconds(after: Option<Duration>) -> String {
    after.map_or_else(|| "-".to_owned(), |after| format!("{:.3} s", after.as_secs_f64()))
}
