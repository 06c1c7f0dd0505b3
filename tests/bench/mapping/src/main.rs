//! The same natively: a batch on standard input, its time on standard output.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).expect("a batch on standard input");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!("mapping: {} ns", mapping::least(&body, now).as_nanos());
}
