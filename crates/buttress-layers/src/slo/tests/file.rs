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
fn a_folder_that_is_not_there_is_a_clear_error() {
    let folder = Folder::new();
    let path = folder.0.join("nowhere").join("shop.slo");
    let tracker = tracker([up()]);

    let error = tracker.keep(SnapshotFile::at(&path)).unwrap_err();

    let said = error.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains("No such file"), "{said}");
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
