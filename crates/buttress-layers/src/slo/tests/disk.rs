//! Disks that are full, and such as nobody may write to: real ones, of 16 KB of memory.
//!
//! The test runs itself once more, where only that process sees what it mounts.

use std::{
    env, fs,
    io::ErrorKind,
    path::Path,
    process::{Command, Stdio},
};

use buttress_slo::Snapshot;

use super::{file::Folder, *};

/// The folder that the inner process has mounted a small disk on.
const DISK: &str = "BUTTRESS_SMALL_DISK";

#[test]
fn a_disk_that_is_full_or_read_only_keeps_what_was_saved_and_is_told_once() {
    if let Some(disk) = env::var_os(DISK) {
        on_a_small_disk(Path::new(&disk));
        return;
    }
    let apart = ["--mount", "--map-root-user"];
    let folder = Folder::new();
    let disk = folder.path();
    fs::create_dir(&disk).unwrap();
    let mount = "mount -t tmpfs -o size=16k tmpfs \"$1\"";
    let mut can = Command::new("unshare");
    can.args(apart).args(["sh", "-c", mount, "sh"]).arg(&disk).stderr(Stdio::null());
    if !can.status().is_ok_and(|status| status.success()) {
        println!("this machine lets nobody mount a disk of their own: not tried");
        return;
    }

    let again = format!("{mount} && exec \"$0\" --nocapture --exact \"$2\"");
    let name = std::thread::current().name().unwrap().to_owned();
    let inner = Command::new("unshare")
        .args(apart)
        .args(["sh", "-c", &again])
        .arg(env::current_exe().unwrap())
        .arg(&disk)
        .arg(name)
        .env(DISK, &disk)
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success(), "{said}\n{}", String::from_utf8_lossy(&inner.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

fn on_a_small_disk(disk: &Path) {
    let (path, filler) = (disk.join("shop.slo"), disk.join("filler"));
    let (tracker, told) = (tracker([up()]), Told::default());
    tracker.keep(SnapshotFile::at(&path)).unwrap();
    tracker.observe(Arc::new(told.clone()));
    let saved = fs::read(&path).unwrap();
    let as_it_was = || {
        assert_eq!(fs::read(&path).unwrap(), saved);
        let names = fs::read_dir(disk).unwrap().map(|it| it.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().contains(".new-")));
    };

    // Whatever there is room for, a page at a time.
    let full = (0..).find_map(|size| fs::write(&filler, vec![0; size * 4096]).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    for _ in 0..3 {
        let error = tracker.save().unwrap_err().to_string();
        assert!(error.ends_with("make room there; what was saved before is as it was"), "{error}");
    }
    as_it_was();
    let heard = told.take();
    assert!(matches!(&heard[..], [one] if one.contains("not saved")), "{heard:?}");

    fs::remove_file(&filler).unwrap();
    tracker.save().unwrap();
    assert!(told.take()[0].contains("the snapshot was saved"));
    let saved_again = fs::read(&path).unwrap();

    remount(disk, "remount,ro");
    let error = tracker.save().unwrap_err().to_string();
    assert!(error.ends_with("name a folder in which this process may make files"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), saved_again);
    assert!(Snapshot::decode(&saved_again).is_ok());
    let age = tracker.snapshot_age();
    assert!(age.is_some(), "it says how old the last one is");

    remount(disk, "remount,rw");
    tracker.save().unwrap();
    assert_eq!(told.take().len(), 2, "that it fails, and that it does again");
}

fn remount(disk: &Path, how: &str) {
    assert!(Command::new("mount").args(["-o", how]).arg(disk).status().unwrap().success());
}
