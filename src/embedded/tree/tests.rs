#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;

fn copier() -> Copier {
    Copier::new(1 << 30, 10_000)
}

/// A tree with one of everything.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), "one").unwrap();
    fs::write(root.join("a/b/two"), vec![7; 300_000]).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
    symlink("/etc/passwd", root.join("out")).unwrap();
    symlink("../../..", root.join("a/up")).unwrap();
    let old = SystemTime::now() - Duration::from_secs(100_000);
    File::open(root.join("a/file")).unwrap().set_modified(old).unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn a_copy_is_the_same_and_any_change_is_seen() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    tree(&from);
    copier().copy(&from, &to).unwrap();
    assert!(same(&from, &to).unwrap() && same(&to, &from).unwrap());
    let meta = fs::metadata(to.join("a/file")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.nlink()), (0o640, 2));
    assert_eq!(meta.ino(), fs::metadata(to.join("a/b/again")).unwrap().ino());
    assert_eq!(
        meta.modified().unwrap(),
        fs::metadata(from.join("a/file")).unwrap().modified().unwrap()
    );
    assert_eq!(fs::read_link(to.join("out")).unwrap(), Path::new("/etc/passwd"));
    sync(&to).unwrap();
    let keep_time = |path: &str, bytes: &[u8]| {
        let path = from.join(path);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, bytes).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    let changes: [(&str, &dyn Fn()); 7] = [
        ("one byte, under the old time", &|| {
            let mut bytes = vec![7; 300_000];
            bytes[299_999] = 8;
            keep_time("a/b/two", &bytes);
        }),
        ("a length", &|| fs::write(from.join("empty"), "x").unwrap()),
        ("a new name", &|| fs::write(from.join("new"), "").unwrap()),
        ("a name less", &|| fs::remove_file(from.join("empty")).unwrap()),
        ("a mode", &|| {
            fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o700)).unwrap()
        }),
        ("a link's target", &|| {
            fs::remove_file(from.join("out")).unwrap();
            symlink("/etc/group", from.join("out")).unwrap();
        }),
        ("a directory in place of a file", &|| {
            fs::remove_file(from.join("empty")).unwrap();
            fs::create_dir(from.join("empty")).unwrap();
        }),
    ];
    for (what, change) in changes {
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(&from).unwrap();
        copier().copy(&to, &from).unwrap();
        assert!(same(&from, &to).unwrap(), "{what}");
        change();
        assert!(!same(&from, &to).unwrap() && !same(&to, &from).unwrap(), "{what}");
    }
    assert!(!same(&from, &temp.path().join("no")).unwrap());
}

#[test]
fn nothing_outside_is_read_and_nothing_that_runs_is_copied() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(temp.path().join("secret"), "not yours").unwrap();
    symlink("../secret", from.join("link")).unwrap();
    symlink("..", from.join("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    copier().copy(&from, &to).unwrap();
    let mut left: Vec<_> = fs::read_dir(&to)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["dir", "link"]);
    assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
    assert!(same(&from, &to).unwrap(), "sockets and FIFOs are no difference");
    // What a tree's own top is, is not followed either.
    symlink(&from, temp.path().join("top")).unwrap();
    assert!(copier().copy(&temp.path().join("top"), &temp.path().join("x")).is_err());
}

#[test]
fn a_tree_has_bounds() {
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("from");
    fs::create_dir(&from).unwrap();
    for number in 0..20 {
        fs::write(from.join(number.to_string()), vec![1; 10_000]).unwrap();
    }
    let refused = |copier: &mut Copier, to: &str| copier.copy(&from, &temp.path().join(to)).unwrap_err().to_string();
    let said = refused(&mut Copier::new(100_000, 1000), "a");
    assert!(said.contains("holds more than a snapshot takes"), "{said}");
    assert!(refused(&mut Copier::new(1 << 30, 10), "b").contains("10 files"));
    Copier::new(1 << 20, 21).copy(&from, &temp.path().join("c")).unwrap();
    // A hole takes no room, in the copy neither.
    let holes = temp.path().join("holes");
    fs::create_dir(&holes).unwrap();
    let file = File::create(holes.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"end", (1 << 30) - 3).unwrap();
    let copy = temp.path().join("copy");
    Copier::new(1 << 20, 10).copy(&holes, &copy).unwrap();
    let meta = fs::metadata(copy.join("sparse")).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());
    let mut deep = temp.path().join("deep");
    fs::create_dir(&deep).unwrap();
    for _ in 0..DEPTH {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    let said = copier()
        .copy(&temp.path().join("deep"), &temp.path().join("e"))
        .unwrap_err();
    assert!(said.to_string().contains("directories in one another"), "{said}");
}

#[test]
fn a_directory_is_filled() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    tree(&from);
    fs::create_dir(&to).unwrap();
    copier().fill(&from, &to).unwrap();
    fs::set_permissions(&to, fs::metadata(&from).unwrap().permissions()).unwrap();
    assert!(same(&from, &to).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_tree_comes_back(files in proptest::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,3}", any::<Vec<u8>>(), 0..12)) {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir(&from).unwrap();
        for (path, bytes) in &files {
            let path = from.join(path);
            // A file may be in the way of a directory: then there is one less.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() {
                let _ = fs::write(path, bytes);
            }
        }
        copier().copy(&from, &to).unwrap();
        prop_assert!(same(&from, &to).unwrap());
        for (path, bytes) in &files {
            if from.join(path).is_file() {
                prop_assert_eq!(&fs::read(to.join(path)).unwrap(), bytes);
            }
        }
    }
}
