use super::*;
use serde_json::json;

fn pods() -> CollectionKey {
    CollectionKey::new("", "pods")
}

pub(super) fn pod(name: &str, value: i64) -> Value {
    json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"value": value}})
}

async fn change(watch: &mut Watch) -> Change {
    match watch.next().await {
        Some(WatchItem::Change(change)) => change,
        other => panic!("expected a change, got {other:?}"),
    }
}

#[test]
fn every_write_takes_the_next_revision() {
    let store = Store::default();
    let key = pods().object("a", "x");
    let created = revision_of(&store.create(&key, pod("x", 1)).unwrap());
    assert_eq!(store.create(&key, pod("x", 1)), Err(StoreError::AlreadyExists));
    let updated = revision_of(&store.update(&key, Some(created), pod("x", 2)).unwrap());
    let deleted = revision_of(&store.delete(&key, Some(updated)).unwrap());
    assert_eq!([updated, deleted], [created + 1, created + 2]);
    assert_eq!(store.revision(), deleted);
    assert_eq!(store.get(&key), None);
    assert_eq!(store.delete(&key, None), Err(StoreError::NotFound));
    assert!(store.list(&pods(), None).items.is_empty());
}

#[test]
fn a_stale_writer_is_refused() {
    let store = Store::default();
    let key = pods().object("a", "x");
    let first = revision_of(&store.create(&key, pod("x", 1)).unwrap());
    let second = revision_of(&store.update(&key, None, pod("x", 2)).unwrap());
    let conflict = StoreError::Conflict {
        expected: first,
        actual: second,
    };
    assert_eq!(store.update(&key, Some(first), pod("x", 3)), Err(conflict.clone()));
    assert_eq!(store.delete(&key, Some(first)), Err(conflict));
}

#[test]
fn an_update_that_changes_nothing_makes_no_revision() {
    let store = Store::default();
    let key = pods().object("a", "x");
    store.create(&key, pod("x", 1)).unwrap();
    let before = store.revision();
    store.update(&key, None, pod("x", 1)).unwrap();
    assert_eq!(store.revision(), before);
}

#[test]
fn an_earlier_state_can_be_listed_while_the_history_reaches_back() {
    let store = Store::new(Limits {
        history: 5,
        watcher_buffer: 8,
        ..Limits::default()
    });
    let mut states = vec![(store.revision(), store.list(&pods(), Some("a")).items)];
    let key = |name: &str| pods().object("a", name);
    type Step = Box<dyn Fn(&Store)>;
    let steps: [Step; 7] = [
        Box::new(move |s| drop(s.create(&key("x"), pod("x", 1)))),
        Box::new(move |s| drop(s.create(&key("y"), pod("y", 1)))),
        Box::new(|s| drop(s.create(&pods().object("b", "z"), pod("z", 1)))),
        Box::new(move |s| drop(s.update(&key("x"), None, pod("x", 2)))),
        Box::new(move |s| drop(s.delete(&key("x"), None))),
        Box::new(move |s| drop(s.create(&key("x"), pod("x", 3)))),
        Box::new(move |s| drop(s.delete(&key("y"), None))),
    ];
    for step in steps {
        step(&store);
        states.push((store.revision(), store.list(&pods(), Some("a")).items));
    }
    for (at, (revision, items)) in states.iter().enumerate() {
        match store.list_at(&pods(), Some("a"), *revision) {
            Ok(listed) => assert_eq!((&listed.items, listed.revision), (items, *revision)),
            Err(error) => {
                assert!(at < 2, "{error}");
                assert!(matches!(error, StoreError::Expired { .. }), "{error}");
            }
        }
    }
    assert!(store.list_at(&pods(), None, states[2].0).is_ok());
    let newest = store.revision();
    let future = store.list_at(&pods(), None, newest + 1);
    assert!(matches!(future, Err(StoreError::TooLarge { .. })), "{future:?}");
}

#[tokio::test]
async fn a_watch_replays_history_and_then_follows() {
    let store = Store::default();
    let start = store.revision();
    let key = pods().object("a", "x");
    store.create(&key, pod("x", 1)).unwrap();
    store.create(&pods().object("b", "y"), pod("y", 1)).unwrap();
    let mut watch = store.watch(&pods(), Some("a"), start).unwrap();
    store.update(&key, None, pod("x", 2)).unwrap();
    store.delete(&key, None).unwrap();
    let seen = [
        change(&mut watch).await,
        change(&mut watch).await,
        change(&mut watch).await,
    ];
    assert_eq!(
        seen.each_ref().map(|change| change.kind),
        [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted]
    );
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision));
    assert_eq!(seen[1].previous.as_ref().unwrap()["spec"]["value"], 1);
    assert_eq!(seen[2].object["spec"]["value"], 2);
    assert_eq!(revision_of(&seen[2].object), seen[2].revision);
}

#[test]
fn a_forgotten_revision_has_expired_and_a_future_one_is_too_large() {
    let store = Store::new(Limits {
        history: 2,
        watcher_buffer: 8,
        ..Limits::default()
    });
    let start = store.revision();
    for name in ["x", "y", "z"] {
        store.create(&pods().object("a", name), pod(name, 1)).unwrap();
    }
    assert_eq!(
        store.watch(&pods(), None, start).err(),
        Some(StoreError::Expired {
            requested: start,
            oldest: start + 1
        })
    );
    assert!(store.watch(&pods(), None, start + 1).is_ok());
    let current = store.revision();
    assert_eq!(
        store.watch(&pods(), None, current + 1).err(),
        Some(StoreError::TooLarge {
            requested: current + 1,
            current
        })
    );
}

#[test]
fn one_collection_does_not_push_out_anothers_history() {
    let store = Store::new(Limits {
        history: 2,
        watcher_buffer: 8,
        ..Limits::default()
    });
    let start = store.revision();
    let events = CollectionKey::new("", "events");
    for name in ["1", "2", "3", "4"] {
        store.create(&events.object("a", name), pod(name, 1)).unwrap();
    }
    assert!(store.watch(&pods(), None, start).is_ok());
}

#[tokio::test]
async fn a_slow_watcher_is_ended_and_others_go_on() {
    let store = Store::new(Limits {
        history: 100,
        watcher_buffer: 2,
        ..Limits::default()
    });
    let mut slow = store.watch(&pods(), None, store.revision()).unwrap();
    let mut quick = store.watch(&pods(), None, store.revision()).unwrap();
    for name in ["1", "2", "3", "4"] {
        store.create(&pods().object("a", name), pod(name, 1)).unwrap();
        assert_eq!(change(&mut quick).await.object["metadata"]["name"], name);
    }
    assert_eq!(change(&mut slow).await.object["metadata"]["name"], "1");
    assert_eq!(change(&mut slow).await.object["metadata"]["name"], "2");
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn progress_comes_behind_what_has_happened() {
    let store = Store::default();
    let mut watch = store.watch(&pods(), None, store.revision()).unwrap();
    store.create(&pods().object("a", "x"), pod("x", 1)).unwrap();
    store
        .create(&CollectionKey::new("", "events").object("a", "e"), pod("e", 1))
        .unwrap();
    watch.request_progress();
    change(&mut watch).await;
    match watch.next().await {
        Some(WatchItem::Progress(revision)) => assert_eq!(revision, store.revision()),
        other => panic!("expected progress, got {other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_lost_between_a_list_and_its_watch() {
    let store = Store::default();
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for n in 0..500 {
                let name = format!("p{n}");
                store.create(&pods().object("a", &name), pod(&name, n)).unwrap();
            }
        })
    };
    let (listed, mut watch) = store.list_and_watch(&pods(), None);
    let mut names: Vec<String> = listed
        .items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    while names.len() < 500 {
        names.push(
            change(&mut watch).await.object["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    writer.join().unwrap();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 500);
}

#[test]
fn concurrent_compare_and_swap_loses_no_increment() {
    let store = Store::default();
    let key = pods().object("a", "x");
    store.create(&key, pod("x", 0)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    loop {
                        let current = store.get(&key).unwrap();
                        let next = pod("x", current["spec"]["value"].as_i64().unwrap() + 1);
                        match store.update(&key, Some(revision_of(&current)), next) {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(store.get(&key).unwrap()["spec"]["value"], 400);
}

fn fat(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name, "namespace": "a"}, "data": "x".repeat(bytes)})
}

#[test]
fn history_is_bounded_by_bytes_too() {
    let store = Store::new(Limits {
        history_bytes: 10_000,
        ..Limits::default()
    });
    let start = store.revision();
    for n in 0..4 {
        store
            .create(&pods().object("a", &n.to_string()), fat("x", 4_000))
            .unwrap();
    }
    assert!(matches!(
        store.watch(&pods(), None, start),
        Err(StoreError::Expired { oldest, .. }) if oldest == start + 2
    ));
    assert!(store.watch(&pods(), None, start + 2).is_ok());
    // One that is larger than all history may be is there for who follows closely.
    store.create(&pods().object("a", "large"), fat("x", 20_000)).unwrap();
    assert!(store.watch(&pods(), None, start + 4).is_ok());
    assert!(store.watch(&pods(), None, start + 3).is_err());
    // Small ones push it out.
    store.create(&pods().object("a", "small"), fat("x", 1)).unwrap();
    store.create(&pods().object("a", "smaller"), fat("x", 1)).unwrap();
    assert!(store.watch(&pods(), None, start + 5).is_ok());
    assert!(store.watch(&pods(), None, start + 4).is_err());
}

#[tokio::test]
async fn a_watcher_that_is_bytes_behind_is_ended_and_one_that_reads_is_not() {
    let store = Store::new(Limits {
        watcher_bytes: 10_000,
        ..Limits::default()
    });
    let mut slow = store.watch(&pods(), None, store.revision()).unwrap();
    let mut quick = store.watch(&pods(), None, store.revision()).unwrap();
    for n in 0..5 {
        store
            .create(&pods().object("a", &n.to_string()), fat("x", 4_000))
            .unwrap();
        change(&mut quick).await;
    }
    store.create(&pods().object("a", "large"), fat("x", 20_000)).unwrap();
    change(&mut quick).await;
    for _ in 0..2 {
        change(&mut slow).await;
    }
    assert!(slow.next().await.is_none());
}

#[test]
fn a_full_store_takes_nothing_that_makes_it_grow() {
    let store = Store::new(Limits {
        space: 10_000,
        ..Limits::default()
    });
    let key = |name: &str| pods().object("a", name);
    store.create(&key("x"), fat("x", 4_000)).unwrap();
    store.create(&key("y"), fat("y", 4_000)).unwrap();
    assert_eq!(store.create(&key("z"), fat("z", 4_000)), Err(StoreError::NoSpace));
    assert_eq!(store.update(&key("x"), None, fat("x", 8_000)), Err(StoreError::NoSpace));
    store.update(&key("x"), None, fat("x", 5_000)).unwrap();
    // What was taken is given back, as often as one likes.
    for _ in 0..10 {
        store.delete(&key("y"), None).unwrap();
        store.create(&key("y"), fat("y", 4_000)).unwrap();
        store.update(&key("x"), None, fat("x", 1)).unwrap();
        store.update(&key("x"), None, fat("x", 5_000)).unwrap();
    }
    assert_eq!(store.create(&key("z"), fat("z", 4_000)), Err(StoreError::NoSpace));
    store.delete(&key("x"), None).unwrap();
    store.create(&key("z"), fat("z", 4_000)).unwrap();
}

#[tokio::test]
async fn a_packed_past_is_the_same_past() {
    let store = Store::default();
    let start = store.revision();
    let key = pods().object("a", "x");
    store.create(&key, pod("x", 1)).unwrap();
    store.update(&key, None, pod("x", 2)).unwrap();
    let middle = store.revision();
    store.delete(&key, None).unwrap();
    store.create(&pods().object("b", "y"), pod("y", 3)).unwrap();
    let past = async |store: &Store| {
        let mut watch = store.watch(&pods(), None, start).unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let change = change(&mut watch).await;
            seen.push((change.revision, change.kind, change.object, change.previous));
        }
        (seen, store.list_at(&pods(), None, middle).unwrap().items)
    };
    let before = past(&store).await;
    for _ in 0..2 {
        store.pack();
        assert_eq!(past(&store).await, before);
    }
    store.update(&pods().object("b", "y"), None, pod("y", 4)).unwrap();
    store.pack();
    assert_eq!(past(&store).await, before);
}
