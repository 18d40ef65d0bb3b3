//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    // Every container of the embedded cluster is a process of this program. One that may lie anywhere in memory has hundreds
    // of thousands of addresses to write before it begins, into pages that no two processes share then: two megabytes and a
    // millisecond each.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
