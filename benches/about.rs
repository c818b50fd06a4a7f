//! Prints how to read the benches. cargo runs benches in the order of their names, so that this one
//! comes first.

fn main() {
    println!("{}", include_str!("README.md"));
}
