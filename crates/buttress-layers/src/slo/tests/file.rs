//! Snapshots in real files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use buttress_slo::{InstanceId, Snapshot};

use super::*;

/// A folder that is gone at the end of the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("buttress-slo-{}-{number}", std::process::id());
        // In memory where that can be had: thousands of files that reach a disk take a minute.
        let memory = Path::new("/dev/shm");
        let path = if memory.is_dir() { memory.into() } else { std::env::temp_dir() }.join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self) -> SnapshotFile {
        SnapshotFile::at(self.path())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.join("shop.slo")
    }

    /// What else is there.
    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.map(|it| it.into_string().unwrap()).collect();
        names.retain(|name| name != "shop.slo");
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SOME: Counts = Counts { good: 999, bad: 1 };

/// A tracker that has counted, and saved.
fn saved(folder: &Folder) -> SloTracker {
    let tracker = tracker([up()]);
    tracker.keep(folder.file()).unwrap();
    tracker.recorder("up").unwrap().add(SOME);
    tracker.save().unwrap();
    tracker
}

fn known(tracker: &SloTracker) -> Counts {
    tracker.numbers("up").unwrap().budget.counts()
}

#[test]
fn a_restart_goes_on_and_exports_from_zero() {
    let folder = Folder::new();
    drop(saved(&folder));

    let after = tracker([up()]);
    let start = after.keep(folder.file()).unwrap();

    assert!(matches!(start, Start::Restored(_)), "{start}");
    assert_eq!(known(&after), SOME);
    assert_eq!(counted(&after, "up"), (0, 0));
    assert_eq!(folder.beside(), [""; 0]);
}

/// Keeps to a file of these bytes, and returns what became of it.
fn found(bytes: &[u8]) -> (Folder, SloTracker, String) {
    let folder = Folder::new();
    fs::write(folder.path(), bytes).unwrap();
    let tracker = tracker([up()]);
    let told = Told::default();
    tracker.observe(Arc::new(told.clone()));
    let Start::SetAside { to, why } = tracker.keep(folder.file()).unwrap() else {
        panic!("{} bytes were restored", bytes.len());
    };
    assert_eq!(to, folder.0.join("shop.slo.damaged-1"));
    assert_eq!(fs::read(to).unwrap(), bytes, "what was there is kept");
    assert_eq!(told.take().len(), 1, "{why}");
    (folder, tracker, why)
}

#[test]
fn what_cannot_be_used_is_set_aside_and_counting_goes_on() {
    let folder = Folder::new();
    drop(saved(&folder));
    let good = fs::read(folder.path()).unwrap();
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let other = SloTracker::new("stall".parse().unwrap(), [up()]).unwrap();
    let elsewhere = Folder::new();
    other.keep(elsewhere.file()).unwrap();
    let others = fs::read(elsewhere.path()).unwrap();

    let cases = [
        (b"#!/bin/sh".to_vec(), "something else is kept"),
        (Vec::new(), "something else is kept"),
        (changed(8, 9), "format 9"),
        (changed(40, good[40] ^ 1), "damaged"),
        (others, "stall"),
    ];
    for (bytes, word) in cases {
        let (folder, tracker, why) = found(&bytes);
        assert!(why.contains(word), "{why:?} says nothing of {word:?}");
        tracker.recorder("up").unwrap().add(SOME);
        tracker.save().unwrap();
        assert!(matches!(super::tracker([up()]).keep(folder.file()), Ok(Start::Restored(_))));
    }
}

#[test]
fn a_file_that_ends_too_early_is_set_aside_wherever_it_ends() {
    let folder = Folder::new();
    drop(saved(&folder));
    let whole = fs::read(folder.path()).unwrap();

    for length in 0..whole.len() {
        let (_folder, tracker, _) = found(&whole[..length]);
        assert_eq!(known(&tracker), Counts::default(), "{length} bytes");
    }
}

#[test]
fn what_a_killed_writer_left_is_cleared_and_does_no_harm() {
    let folder = Folder::new();
    drop(saved(&folder));
    let whole = fs::read(folder.path()).unwrap();
    // Killed at any byte, it leaves a part of the new one beside the whole old one.
    for length in [0, 1, whole.len() / 2, whole.len()] {
        fs::write(folder.0.join("shop.slo.new-0badc0de"), &whole[..length]).unwrap();

        let after = tracker([up()]);
        after.keep(folder.file()).unwrap();

        assert_eq!(known(&after), SOME);
        assert_eq!(folder.beside(), [""; 0]);
    }
}

#[test]
fn the_newest_of_too_many_that_were_set_aside_is_kept() {
    let folder = Folder::new();
    for number in 0..25_u8 {
        fs::write(folder.path(), [number]).unwrap();
        tracker([up()]).keep(folder.file()).unwrap();
    }

    assert_eq!(folder.beside().len(), 20);
    assert_eq!(fs::read(folder.0.join("shop.slo.damaged-20")).unwrap(), [24]);
    assert_eq!(fs::read(folder.0.join("shop.slo.damaged-1")).unwrap(), [0]);
}

#[test]
fn two_processes_on_one_path_are_told_apart() {
    let folder = Folder::new();
    let first = saved(&folder);
    let told = Told::default();
    first.observe(Arc::new(told.clone()));
    let second = tracker([up()]);
    second.keep(folder.file()).unwrap();

    let error = first.save().unwrap_err();
    let again = first.save().unwrap_err();

    assert!(matches!(error, SnapshotError::Shared(_)), "{error}");
    assert!(error.to_string().contains("two processes keep their snapshots in one place"));
    assert_eq!(told.take().len(), 1, "told once, though it was tried twice: {again}");
    second.save().unwrap();
    // When the neighbour is gone, and its file with it, saving goes on and that is told.
    fs::remove_file(folder.path()).unwrap();
    first.save().unwrap();
    assert!(told.take()[0].contains("the snapshot was saved"));
}

#[test]
fn a_neighbour_of_a_newer_build_is_left_alone() {
    let folder = Folder::new();
    let old = saved(&folder);
    // A newer build takes over, as in a rolling release, while the old one still drains.
    let mut newer = fs::read(folder.path()).unwrap();
    newer[8] = 9;
    fs::write(folder.path(), &newer).unwrap();

    let error = old.save().unwrap_err();

    assert!(matches!(error, SnapshotError::Newer { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("format 9") && said.contains("shop.slo"), "{said}");
    assert_eq!(fs::read(folder.path()).unwrap(), newer);
    assert_eq!(folder.beside(), [""; 0]);
}

#[test]
fn a_listener_that_panics_does_not_keep_what_is_known_from_being_saved() {
    let folder = Folder::new();
    let before = saved(&folder);
    before.listen(|_| panic!("a listener's own"));
    before.recorder("up").unwrap().add(SOME);
    before.plan_maintenance([buttress_slo::Maintenance::planned(
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + 2 * NEW_YEAR,
    )]);

    let saving = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| before.save()));

    assert!(saving.is_err());
    let after = tracker([up()]);
    after.keep(folder.file()).unwrap();
    assert_eq!(known(&after), SOME.plus(SOME));
}

#[test]
fn keeping_to_the_same_file_again_counts_nothing_twice() {
    let folder = Folder::new();
    let tracker = saved(&folder);

    let start = tracker.keep(folder.file()).unwrap();

    assert_eq!(known(&tracker), SOME, "{start}");
}

#[cfg(unix)]
#[test]
fn a_link_stays_a_link_and_what_it_points_to_is_kept() {
    let (folder, volume) = (Folder::new(), Folder::new());
    // To a file that is not there yet, by a path that is relative to the link's folder.
    let name = volume.0.file_name().unwrap().to_owned();
    std::os::unix::fs::symlink(Path::new("..").join(name).join("real.slo"), folder.path()).unwrap();

    drop(saved(&folder));
    let after = tracker([up()]);
    let start = after.keep(folder.file()).unwrap();

    assert!(matches!(start, Start::Restored(_)), "{start}");
    assert!(fs::symlink_metadata(folder.path()).unwrap().is_symlink());
    assert!(Snapshot::decode(&fs::read(volume.0.join("real.slo")).unwrap()).is_ok());
    assert_eq!((folder.beside(), volume.beside()), (vec![], vec!["real.slo".to_owned()]));

    // What is damaged is set aside where it lies, and not the link to it.
    fs::write(volume.0.join("real.slo"), "damaged").unwrap();
    drop(after);
    tracker([up()]).keep(folder.file()).unwrap();
    assert!(fs::symlink_metadata(folder.path()).unwrap().is_symlink());
    assert_eq!(fs::read(volume.0.join("real.slo.damaged-1")).unwrap(), b"damaged");
}

#[test]
fn files_of_others_with_a_name_alike_are_not_cleared() {
    let folder = Folder::new();
    let others = ["shop.slo.new-york", "shop.slo.new-", "shop.slo.newest"];
    for name in others {
        fs::write(folder.0.join(name), "somebody else's").unwrap();
    }

    drop(saved(&folder));

    let mut left = folder.beside();
    left.sort();
    let mut expected = others.map(str::to_owned);
    expected.sort();
    assert_eq!(left, expected);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_file_and_left_alone() {
    // Whoever opens one waits for somebody to write into it.
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.path()).status().unwrap();
    assert!(made.success());
    let tracker = tracker([up()]);

    let error = tracker.keep(folder.file()).unwrap_err();

    assert!(error.to_string().contains("it is no file"), "{error}");
    assert!(fs::exists(folder.path()).unwrap());
    assert_eq!(folder.beside(), [""; 0]);
}

#[test]
fn a_folder_that_is_not_there_is_a_clear_error() {
    let folder = Folder::new();
    let path = folder.0.join("nowhere").join("shop.slo");
    let tracker = tracker([up()]);

    let error = tracker.keep(SnapshotFile::at(&path)).unwrap_err();

    let said = error.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains("No such file"), "{said}");
    assert!(said.ends_with("; make its folder, or name another one"), "{said}");
    // Made meanwhile: it goes on trying.
    fs::create_dir(path.parent().unwrap()).unwrap();
    tracker.save().unwrap();
}

#[test]
fn what_is_no_file_is_a_clear_error_and_left_alone() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).unwrap();
    let tracker = tracker([up()]);

    let error = tracker.keep(folder.file()).unwrap_err();

    assert!(error.to_string().contains("cannot read the snapshot"), "{error}");
    assert!(error.to_string().ends_with("it is no file; name a file"), "{error}");
    assert!(folder.path().is_dir());
    assert!(matches!(tracker.save(), Err(SnapshotError::NoFile)), "and nothing was changed");
    assert!(tracker.snapshot_age().is_none());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_clear_error() {
    // A file system that refuses whoever asks, also root: there are no files to be made in it.
    let tracker = tracker([up()]);

    let error = tracker.keep(SnapshotFile::at(Path::new("/proc/shop.slo"))).unwrap_err();

    assert!(error.to_string().contains("/proc/shop.slo"), "{error}");
}

#[test]
fn a_path_without_a_name_is_a_clear_error() {
    for path in ["", "/", ".", ".."] {
        let error = tracker([up()]).keep(SnapshotFile::at(path)).unwrap_err().to_string();

        assert!(error.contains("; "), "{path:?}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_itself_and_one_to_a_device_are_clear_errors_and_left_alone() {
    let folder = Folder::new();
    for to in [folder.path(), PathBuf::from("/dev/full"), PathBuf::from("/dev/null")] {
        std::os::unix::fs::symlink(&to, folder.path()).unwrap();

        let error = tracker([up()]).keep(folder.file()).unwrap_err().to_string();

        assert!(error.contains(" the snapshot /"), "{error}");
        assert_eq!(fs::read_link(folder.path()).unwrap(), to);
        assert_eq!(folder.beside(), [""; 0]);
        fs::remove_file(folder.path()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_saved_every_minute_and_the_age_is_told() {
    let folder = Folder::new();
    let tracker = tracker([up()]);
    tracker.keep(folder.file()).unwrap();
    tokio::spawn(tracker.clone().run());
    let taken = |at: &Path| Snapshot::decode(&fs::read(at).unwrap()).unwrap();
    let first = taken(&folder.path());

    sleep(Duration::from_secs(59)).await;
    assert_eq!(taken(&folder.path()), first);
    assert_eq!(tracker.snapshot_age(), Some(Duration::from_secs(59)));
    tracker.recorder("up").unwrap().add(SOME);
    sleep(Duration::from_secs(3)).await;

    assert!(tracker.snapshot_age().unwrap() <= Duration::from_secs(2));
    let second = taken(&folder.path());
    assert!(second.taken_at() >= first.taken_at() + 60);
    assert_ne!(second.instance(), InstanceId::new(0));
}
