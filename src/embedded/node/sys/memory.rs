//! What this process keeps of memory that it does not use.

use std::{fs, io};

/// Has the C library keep at most two heaps. It makes up to eight a core, and what was freed in one is of no use to the
/// others: megabytes in a process whose threads do a little of everything, as a node's do.
pub fn keep_few_heaps() {
    // SAFETY: mallopt takes two numbers; glibc documents it for any moment before or after threads are started.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2)
    };
}

/// Has the C library give the system back what was freed and lies between what is in use.
pub fn give_back_heaps() {
    // SAFETY: malloc_trim touches free memory alone, under the heaps' own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Lets go of the pages of the program's code and constants. Those that are used come back as they are used, from the page
/// cache. What ran once, at the start, does not: a fault brings sixteen pages at a time, so that most of a program that
/// does a little of everything is in its memory soon.
///
/// # Errors
/// When the process cannot look at its own mappings.
pub fn let_go_of_code() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    for (start, end) in as_in_the_file(&mappings, &program.to_string_lossy()) {
        // SAFETY: the mapping is the program's own file, private, without a page that differs from it and not to be written to: what
        // is read there afterwards is what was there before.
        unsafe {
            libc::madvise(
                std::ptr::without_provenance_mut(start),
                end - start,
                libc::MADV_DONTNEED,
            )
        };
    }
    Ok(())
}

/// The mappings of a program in smaps (proc_pid_smaps(5)) that nothing was ever written to, and nothing can be.
fn as_in_the_file(smaps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = None;
    for line in smaps.lines() {
        if let Some(pages) = line.strip_prefix("Anonymous:") {
            found.extend(at.take().filter(|_| pages.trim() == "0 kB"));
        } else if let Some(mapping) = mapping(line) {
            at = mapping.of(program);
        }
    }
    found
}

struct Mapping<'a> {
    range: (usize, usize),
    rights: &'a str,
    file: &'a str,
}

impl Mapping<'_> {
    fn of(&self, program: &str) -> Option<(usize, usize)> {
        let fixed = self.rights.starts_with('r') && !self.rights.contains('w') && self.rights.ends_with('p');
        (fixed && self.file == program).then_some(self.range)
    }
}

/// The first line of a mapping: `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/program`.
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let mut fields = rest.splitn(5, ' ');
    Some(Mapping {
        range: (number(start)?, number(end)?),
        rights: fields.next()?,
        file: fields.nth(3)?.trim_start(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_let_go() {
        let smaps = "\
00400000-00452000 r--p 00000000 08:02 173521                             /usr/bin/a program
Rss:                 892 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
00452000-00600000 r-xp 00052000 08:02 173521                             /usr/bin/a program
Anonymous:             0 kB
00600000-00610000 r--p 00200000 08:02 173521                             /usr/bin/a program
Anonymous:             4 kB
00610000-00620000 rw-p 00210000 08:02 173521                             /usr/bin/a program
Anonymous:             0 kB
00e03000-00e24000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             8 kB
35b1800000-35b1820000 r-xp 00000000 08:02 135522                         /usr/lib64/ld-2.15.so
Anonymous:             0 kB
7fff00000000-7fff00001000 r-xp 00000000 00:00 0
Anonymous:             0 kB
";
        let found = as_in_the_file(smaps, "/usr/bin/a program");
        assert_eq!(found, [(0x40_0000, 0x45_2000), (0x45_2000, 0x60_0000)]);
    }

    #[test]
    fn a_program_goes_on_without_the_pages_of_its_code() {
        let resident = || {
            let program = fs::read_link("/proc/self/exe").unwrap();
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut mine = false;
            let mut kib = 0;
            for line in smaps.lines() {
                if let Some(mapping) = mapping(line) {
                    mine = mapping.of(&program.to_string_lossy()).is_some();
                } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| mine) {
                    kib += rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
            }
            kib
        };
        let before = resident();
        let_go_of_code().unwrap();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} after");
    }
}
