//! Who a container's processes are: a user of their own, and groups. Pure but for [`most`].

use std::fs;

use crate::node::sys::Step;

/// The highest group that this user namespace has; 0 where it has one only, or processes may not change theirs.
pub(super) fn most() -> u32 {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    if read("setgroups").trim() == "allow" {
        highest(&read("gid_map"))
    } else {
        0
    }
}

/// The last group of those that are mapped without a gap from 0 on.
fn highest(map: &str) -> u32 {
    let mut next = 0_u32;
    for line in map.lines() {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.nth(1)) else {
            break;
        };
        if first != next {
            break;
        }
        next = first.saturating_add(count);
    }
    next.saturating_sub(1)
}

/// The steps by which a process becomes who it is to be.
#[derive(Debug)]
pub(super) struct Identity {
    /// A user namespace of its own, if it takes one.
    pub(super) user: Option<Step>,
    /// Its groups, if they are others than the node's.
    pub(super) groups: Option<Step>,
}

/// Who runs as this user and group, with these supplementary groups, on a node that has groups up to `most`. Groups that it has
/// not are left out.
pub(super) fn identity(uid: Option<u32>, gid: Option<u32>, groups: &[u32], most: u32) -> Identity {
    let (uid, gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
    let more: Vec<u32> = groups
        .iter()
        .copied()
        .filter(|group| (1..=most).contains(group))
        .collect();
    let own = (1..=most).contains(&gid);
    if (more.is_empty() && !own) || gid > most {
        let user = (uid != 0 || gid != 0).then(|| Step::User {
            uid_map: format!("{uid} 0 1").into_bytes(),
            gid_map: format!("{gid} 0 1").into_bytes(),
            by_parent: false,
        });
        return Identity { user, groups: None };
    }
    // With a user namespace of its own, the groups are the same numbers in it.
    let user = (uid != 0).then(|| Step::User {
        uid_map: format!("{uid} 0 1").into_bytes(),
        gid_map: format!("0 0 1\n1 1 {most}\n").into_bytes(),
        by_parent: true,
    });
    Identity {
        user,
        groups: Some(Step::Groups(more, own.then_some(gid))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_counted_from_the_first_on() {
        for (map, expected) in [
            ("         0       1000          1\n", 0),
            (
                "         0          0          1\n         1 1900000000      65535\n",
                65_535,
            ),
            (
                "         0       1000          1\n         1     100000       1000\n",
                1000,
            ),
            ("0 0 4294967295\n", 4_294_967_294),
            ("0 1000 1\n5 100000 10\n", 0),
            ("nonsense\n", 0),
            ("", 0),
        ] {
            assert_eq!(highest(map), expected, "{map}");
        }
    }

    #[test]
    fn a_process_gets_the_groups_that_the_node_has() {
        let shown = |uid, gid, groups: &[u32], most| {
            let identity = identity(uid, gid, groups, most);
            let user = identity.user.map(|step| match step {
                Step::User { gid_map, by_parent, .. } => (String::from_utf8(gid_map).unwrap(), by_parent),
                other => panic!("{other:?}"),
            });
            let groups = identity.groups.map(|step| match step {
                Step::Groups(more, own) => (more, own),
                other => panic!("{other:?}"),
            });
            (user, groups)
        };
        let single = |gid: u32| Some((format!("{gid} 0 1"), false));
        let wide = Some(("0 0 1\n1 1 65535\n".to_owned(), true));
        for (uid, gid, groups, most, expected) in [
            (None, None, &[][..], 65_535, (None, None)),
            (Some(1000), None, &[], 65_535, (single(0), None)),
            (None, Some(5), &[], 0, (single(5), None)),
            (Some(1000), Some(5), &[7], 0, (single(5), None)),
            (None, None, &[7], 65_535, (None, Some((vec![7], None)))),
            (None, Some(5), &[], 65_535, (None, Some((vec![], Some(5))))),
            (
                Some(1000),
                Some(5),
                &[7, 70_000, 0],
                65_535,
                (wide.clone(), Some((vec![7], Some(5)))),
            ),
            (Some(1000), None, &[7], 65_535, (wide, Some((vec![7], None)))),
            (Some(1000), Some(70_000), &[7], 65_535, (single(70_000), None)),
        ] {
            assert_eq!(
                shown(uid, gid, groups, most),
                expected,
                "{uid:?} {gid:?} {groups:?} {most}"
            );
        }
    }
}
