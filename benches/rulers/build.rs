//! Tells the rulers which compiler made them: figures of another one are not comparable.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.expect("the compiler that compiles this can be run");
    let version = String::from_utf8_lossy(&version.stdout);
    println!("cargo::rustc-env=RULERS_RUSTC={}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
