//! Build, test and bench commands.
fn main() {}
